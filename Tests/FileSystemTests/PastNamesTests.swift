import Coordination
import Platform
import Testing

@testable import FileSystem

/// What a directory handle keeps for seekdir(3).
@Suite struct PastNamesTests {
    private func entries(_ names: [String]) -> [WireListEntry] {
        names.enumerated().map { index, name in
            var entry = WireListEntry()
            entry.name = ByteString(name).data
            entry.attributes.inode = UInt64(100 + index)
            entry.attributes.mode = 0o40755
            return entry
        }
    }

    @Test func aNameIsFoundByItsNumberAndWhatFollowsInItsPage() {
        var past = PastNames()
        past.add(entries(["a", "b", "c"]), first: 0)
        past.add(entries(["d", "e"]), first: 3)
        let found = past.entries(from: 1)
        #expect(found?.map { ByteString($0.name) } == ["b", "c"])
        #expect(found?.first?.attributes.inode == 101)
        #expect(found?.first?.attributes.mode == 0o40755)
        #expect(past.entries(from: 4)?.map { ByteString($0.name) } == ["e"])
        #expect(past.entries(from: 5) == nil)
    }

    @Test func theEndOfAListingIsNotTheStartOfTheNext() {
        var past = PastNames()
        past.add(entries(["a", "b"]), first: 0)
        past.add(entries(["a", "b"]), first: 3)
        #expect(past.isEnd(2))
        #expect(!past.isEnd(1))
        #expect(!past.isEnd(3))
        #expect(past.entries(from: 2) == nil)
    }

    @Test func whatWasKeptOnceIsNotKeptAgainUnderTheSameNumbers() {
        var past = PastNames()
        past.add(entries(["a", "b"]), first: 0)
        past.add(entries(["x", "y"]), first: 0)
        #expect(past.entries(from: 0)?.map { ByteString($0.name) } == ["a", "b"])
    }

    @Test func ofAHugeDirectoryTheFirstNamesAreForgottenAndTheLastKept() {
        var past = PastNames()
        let page = entries((0..<1000).map { "a name of common length, like many others \($0)" })
        for number in 0..<200 { past.add(page, first: UInt64(number * 1000)) }
        #expect(past.entries(from: 0) == nil)
        #expect(past.entries(from: 199_999)?.count == 1)
        #expect(past.entries(from: 150_000)?.count == 1000)
    }
}
