import Platform
import TestSupport
import Testing
import UnderStores

/// Reads everything a listing gives.
func entries(_ listing: any DirectoryListing) async throws -> (entries: [DirectoryEntry], pages: [ListingPage]) {
    var pages: [ListingPage] = []
    while let page = try await listing.nextPage() { pages.append(page) }
    return (pages.flatMap(\.entries), pages)
}

/// Keeps what a read delivers and checks that it comes in order, without gaps.
final class RecordingSink: ReadSink {
    struct OutOfOrder: Error {}
    private let start: UInt64
    private let collected = Lock<[UInt8]>([])
    init(from start: UInt64) { self.start = start }
    var bytes: [UInt8] { collected.withLock { $0 } }
    func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        try collected.withLock {
            guard offset == start + UInt64($0.count) else { throw OutOfOrder() }
            $0 += bytes
        }
    }
}

extension UnderStore {
    /// The bytes of one range.
    func bytes(_ path: ByteString, _ range: Range<UInt64>, expecting version: ObjectVersion? = nil) async throws
        -> [UInt8]
    {
        let sink = RecordingSink(from: range.lowerBound)
        try await read(path, range: range, expecting: version, into: sink)
        return sink.bytes
    }
}

@Suite struct S3StoreOnMoto {
    @Test func lookupFindsObjectsAndInfersDirectories() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        try await bucket.put(["top", "a", "a/b", "deep/er/file", "marker/"], "hello")
        let store = try server.store(bucket.bucket)
        let top = try #require(try await store.lookup("top"))
        #expect(top.kind == .file && top.size == 5 && top.version != nil)
        #expect(try await store.lookup("")?.kind == .directory)
        #expect(try await store.lookup("a")?.kind == .directory, "the directory wins over the object")
        #expect(try await store.lookup("deep")?.kind == .directory)
        #expect(try await store.lookup("deep/er")?.kind == .directory)
        #expect(try await store.lookup("marker")?.kind == .directory)
        #expect(try await store.lookup("absent") == nil)
        #expect(try await store.lookup("to") == nil, "a prefix of a name is no directory")
    }

    @Test func listingAgreesWithLookup() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        try await bucket.put(["a", "a!", "a-b", "a.txt", "a/b", "b", "c/", "c/d", "empty/"], "hello")
        let store = try server.store(bucket.bucket)
        let (found, pages) = try await entries(store.list(""))
        #expect(Set(found.map(\.name)) == ["a", "a!", "a-b", "a.txt", "b", "c", "empty"])
        #expect(found.count == 7)
        #expect(pages.flatMap(\.shadowed) == ["a"])
        for entry in found {
            let looked = try #require(try await store.lookup(entry.name))
            #expect(looked.kind == entry.attributes.kind && looked.size == entry.attributes.size)
            #expect(looked.version == entry.attributes.version, "\(entry.name)")
        }
        #expect(try await entries(store.list("empty")).entries.isEmpty)
        await #expect { try await entries(store.list("absent")) } throws: { ($0 as? StoreError)?.kind == .notFound }
        await #expect { try await entries(store.list("b")) } throws: { ($0 as? StoreError)?.kind == .notDirectory }
    }

    @Test func readsExactRangesOfOneVersion() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        var random = SeededGenerator(seed: 1)
        let data = random.bytes(300_000)
        try await bucket.put("data", data)
        let store = try server.store(bucket.bucket)
        let version = try #require(try await store.lookup("data")?.version)
        #expect(try await store.bytes("data", 0..<300_000, expecting: version) == data)
        #expect(try await store.bytes("data", 1..<2, expecting: version) == [data[1]])
        #expect(try await store.bytes("data", 299_999..<300_000) == [data[299_999]])
        #expect(try await store.bytes("data", 1000..<200_001, expecting: version) == Array(data[1000..<200_001]))
        try await bucket.put("data", "replaced")
        await #expect { try await store.bytes("data", 0..<4, expecting: version) } throws: {
            ($0 as? StoreError)?.kind == .versionChanged
        }
        try await bucket.delete("data")
        await #expect { try await store.bytes("data", 0..<4, expecting: version) } throws: {
            ($0 as? StoreError)?.kind == .notFound
        }
    }
}
