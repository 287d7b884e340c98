import Testing

@testable import Coordinator

@Suite("Files that linger before their upload")
struct LingeringFilesTests {
    private let second: UInt64 = 1_000_000_000

    @Test("all go when none has come for a while, and only then")
    func quiet() {
        var files = LingeringFiles<Int>()
        let mustLook = [files.add(1, at: 10 * second), files.add(2, at: 10 * second + second / 2)]
        #expect(mustLook == [true, false])
        let first = files.takeDue(at: 11 * second, .seconds(1), .seconds(5))
        #expect(first.due.isEmpty && first.next == .milliseconds(500))
        let last = files.takeDue(at: 11 * second + second / 2, .seconds(1), .seconds(5))
        #expect(last.due == [1, 2] && last.next == nil)
    }

    @Test("the oldest go while others keep coming, and somebody looks again for the rest")
    func busy() {
        var files = LingeringFiles<Int>()
        for number in 0..<12 { _ = files.add(number, at: UInt64(number) * second / 2) }
        let (due, next) = files.takeDue(at: 6 * second, .seconds(1), .seconds(5))
        let rest = files.takeAll()
        #expect(due == [0, 1, 2] && next == .milliseconds(500) && rest == Array(3..<12))
    }

    @Test("a file that comes again keeps its place, and keeps the others waiting")
    func again() {
        var files = LingeringFiles<Int>()
        var mustLook = [files.add(1, at: second), files.add(nil, at: 2 * second)]
        let early = files.takeDue(at: 2 * second + 1, .seconds(1), .seconds(5)).due
        let late = files.takeDue(at: 3 * second, .seconds(1), .seconds(5)).due
        #expect(early.isEmpty && late == [1])
        // Whoever comes next must have somebody look.
        mustLook.append(files.add(2, at: 4 * second))
        #expect(mustLook == [true, false, true])
    }

    @Test("records wait for one writer, who takes all")
    func unsaved() {
        var unsaved = UnsavedFiles()
        var isFirst = [unsaved.add(3), unsaved.add(1), unsaved.add(3)]
        let taken = [unsaved.take(), unsaved.take()]
        isFirst.append(unsaved.add(1))
        #expect(taken == [[1, 3], []] && isFirst == [true, false, false, true])
    }
}
