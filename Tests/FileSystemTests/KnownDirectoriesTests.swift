import Coordination
import Platform
import Testing

@testable import FileSystem

@Suite("What a mount knows of directories that it has made")
struct KnownDirectoriesTests {
    private let later = UInt64.max

    private func made(_ inode: UInt64, modified: Int64 = 1) -> WireAttributes {
        var attributes = WireAttributes()
        attributes.inode = inode
        attributes.modifiedSeconds = modified
        attributes.ttlMilliseconds = 60_000
        return attributes
    }

    @Test("a name that nobody has asked for is absent, and no other")
    func names() {
        let known = KnownDirectories()
        #expect(!known.isAbsent("a", in: 7), "of a directory that it has not made it knows nothing")
        known.begin(made(7), until: later, since: known.epoch)
        #expect(known.isAbsent("a", in: 7) && !known.isAbsent("a", in: 8))
        #expect(known.note("a", in: 7) && !known.note("a", in: 8))
        #expect(!known.isAbsent("a", in: 7) && known.isAbsent("b", in: 7))
    }

    @Test("its knowledge ends with that of the coordinator")
    func end() {
        let known = KnownDirectories()
        known.begin(made(7), until: MonotonicClock.now(), since: known.epoch)
        #expect(known.attributes(of: 7) == nil && !known.isAbsent("a", in: 7))
    }

    @Test("what the coordinator takes back is asked for again, also when it comes before the answer")
    func forgetting() {
        let known = KnownDirectories()
        known.begin(made(7), until: later, since: known.epoch)
        known.begin(made(8), until: later, since: known.epoch)
        let epoch = known.epoch
        known.forget([7], namesIn: [])
        #expect(!known.isAbsent("a", in: 7) && known.isAbsent("a", in: 8))
        known.begin(made(9), until: later, since: epoch)
        #expect(!known.isAbsent("a", in: 9), "it may have been told of this directory")
        known.forgetAll()
        #expect(!known.isAbsent("a", in: 8))
    }

    @Test("attributes are known until a change is asked for, and again with its answer")
    func attributes() {
        let known = KnownDirectories()
        known.begin(made(7), until: later, since: known.epoch)
        #expect(known.attributes(of: 7)?.modifiedSeconds == 1)
        known.note("a", in: 7)
        #expect(known.attributes(of: 7) == nil)
        known.update(made(7, modified: 2))
        #expect(known.attributes(of: 7)?.modifiedSeconds == 2)
        known.noteChange(in: 7)
        #expect(known.attributes(of: 7) == nil && known.isAbsent("b", in: 7))
        known.update(made(8))
        #expect(known.attributes(of: 8) == nil, "an answer that comes after the directory was forgotten tells nothing")
        let soon = MonotonicClock.now() + 30_000_000_000
        known.begin(made(9), until: soon, since: known.epoch)
        #expect((known.attributes(of: 9)?.ttlMilliseconds).map { $0 <= 30_000 } == true)
    }

    @Test("a name that goes may be that of a known directory, whose attributes are asked for then")
    func goingNames() {
        let known = KnownDirectories()
        for inode in UInt64(7)...9 { known.begin(made(inode), until: later, since: known.epoch) }
        known.forget([], namesIn: [8])
        #expect(known.attributes(of: 7) == nil && known.isAbsent("a", in: 7) && !known.isAbsent("a", in: 8))
        known.update(made(7, modified: 2))
        #expect(known.attributes(of: 7)?.modifiedSeconds == 2)
        known.forgetAttributes()
        #expect(known.attributes(of: 7) == nil && known.isAbsent("a", in: 7))
    }

    @Test("beyond its bounds everything is asked for again")
    func bounds() {
        let known = KnownDirectories()
        known.begin(made(7), until: later, since: known.epoch)
        for number in 0...200_000 { known.note(ByteString("name-\(number)"), in: 7) }
        #expect(!known.isAbsent("other", in: 7))
        for inode in UInt64(100)...5000 { known.begin(made(inode), until: later, since: known.epoch) }
        #expect(!known.isAbsent("a", in: 100) && known.isAbsent("a", in: 5000))
    }
}
