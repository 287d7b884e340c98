import Platform
import TestSupport
import Testing
import UnderStores

@Suite struct Merging {
    private static let file = ObjectAttributes(kind: .file, size: 1, modified: FileTime(seconds: 0))
    private static let directory = ObjectAttributes(kind: .directory, modified: FileTime(seconds: 0))

    /// What S3 answers for these keys with the delimiter "/", in pages of `size` lines.
    private static func pages(_ keys: [ByteString], prefix: ByteString, size: Int) -> [[ListingMerger.Item]] {
        var items: [ListingMerger.Item] = []
        var seen: Set<ByteString> = []
        for key in Set(keys).sorted() where key.hasPrefix(prefix) {
            let rest = key.bytes[prefix.count...]
            if let slash = rest.firstIndex(of: UInt8(ascii: "/")) {
                let common = ByteString(key.bytes[...slash])
                if seen.insert(common).inserted { items.append(.directory(prefix: common, directory)) }
            } else {
                items.append(.object(key: key, file))
            }
        }
        return stride(from: 0, to: items.count, by: size).map { Array(items[$0..<min($0 + size, items.count)]) }
    }

    private static func merge(
        _ keys: [ByteString], prefix: ByteString = "", size: Int
    ) throws -> (entries: [DirectoryEntry], unnameable: Int, shadowed: [ByteString]) {
        var merger = ListingMerger(prefix: prefix)
        var pages = try Self.pages(keys, prefix: prefix, size: size).map { try merger.add($0) }
        pages.append(merger.finish())
        return (pages.flatMap(\.entries), pages.map(\.unnameable).reduce(0, +), pages.flatMap(\.shadowed))
    }

    @Test(arguments: 1...9)
    func directoryWinsOverPages(_ size: Int) throws {
        let keys: [ByteString] = ["a", "a!", "a!b", "a!b/x", "a-b", "a.txt", "a/b", "a0", "b", "b/"]
        let (entries, unnameable, shadowed) = try Self.merge(keys, size: size)
        #expect(entries.map(\.name).sorted() == ["a", "a!", "a!b", "a-b", "a.txt", "a0", "b"])
        #expect(Set(entries.filter { $0.attributes.kind == .directory }.map(\.name)) == ["a", "a!b", "b"])
        #expect(shadowed.sorted() == ["a", "a!b", "b"] && unnameable == 0)
    }

    @Test func unnameableKeysAreCountedNotShown() throws {
        let long = ByteString(String(repeating: "x", count: 256))
        let keys: [ByteString] = [
            "d/", "d//x", "d/.", "d/..", "d/./y", "d/../z", "d/a\0b", "d/" + long, "d/ok", "d/" + long + "/k",
        ]
        let (entries, unnameable, _) = try Self.merge(keys, prefix: "d/", size: 2)
        #expect(entries.map(\.name) == ["ok"])
        #expect(unnameable == 8)
    }

    @Test(arguments: 0..<200)
    func anyKeysGiveEachNameOnce(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let alphabet = Array("a!-./0b".utf8)
        let keys = (0..<Int.random(in: 0...40, using: &random)).map { _ in
            ByteString(
                (0..<Int.random(in: 1...6, using: &random)).map { _ in alphabet.randomElement(using: &random) ?? 97 })
        }
        let (entries, _, shadowed) = try Self.merge(keys, size: Int.random(in: 1...7, using: &random))
        let directories = Set(
            keys.compactMap { key in key.bytes.firstIndex(of: 47).map { ByteString(key.bytes[..<$0]) } }
        )
        .filter(\.isNameable)
        let objects = Set(keys.filter { !$0.bytes.contains(47) && $0.isNameable })
        #expect(entries.count == Set(entries.map(\.name)).count, "a name came twice")
        #expect(Set(entries.filter { $0.attributes.kind == .directory }.map(\.name)) == directories)
        #expect(Set(entries.filter { $0.attributes.kind == .file }.map(\.name)) == objects.subtracting(directories))
        #expect(Set(shadowed) == objects.intersection(directories) && shadowed.count == Set(shadowed).count)
    }

    @Test func aListingThatRepeatsItselfIsAnError() throws {
        var merger = ListingMerger(prefix: "")
        _ = try merger.add([.object(key: "a", Self.file), .directory(prefix: "b/", Self.directory)])
        #expect { try merger.add([.directory(prefix: "b/", Self.directory)]) } throws: {
            ($0 as? StoreError)?.kind == .protocolViolation
        }
    }

    @Test func aKeyTwiceInAPageIsAnError() throws {
        var merger = ListingMerger(prefix: "")
        #expect { try merger.add([.object(key: "a", Self.file), .object(key: "a", Self.file)]) } throws: {
            ($0 as? StoreError)?.kind == .protocolViolation
        }
    }

    @Test func aKeyOutsideTheDirectoryIsAnError() throws {
        var merger = ListingMerger(prefix: "d/")
        #expect { try merger.add([.object(key: "e", Self.file)]) } throws: {
            ($0 as? StoreError)?.kind == .protocolViolation
        }
    }

    @Test func theMarkerAloneMakesAnExistingEmptyDirectory() throws {
        var merger = ListingMerger(prefix: "d/")
        #expect(try merger.add([.object(key: "d/", Self.file)]).entries.isEmpty)
        #expect(merger.hasKeys)
    }
}
