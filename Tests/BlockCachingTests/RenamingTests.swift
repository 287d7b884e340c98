import BlockMaps
import Platform
import SystemPackage
import Testing

@testable import BlockCaching

/// What is cached of an object stays when the store has given its bytes another name or version.
@Suite struct RenamingTests {
    private static let size: UInt64 = 300_001

    private func cached(_ id: CachedObjectID, in cache: BlockCache) async throws -> CachedObject {
        let object = cache.object(id, source: CountingSource())
        _ = try await object.ensure(0..<id.size)
        return object
    }

    @Test func aRenamedObjectIsReadWithoutAskingTheStoreAlsoAfterARestart() async throws {
        let directory = TemporaryDirectory()
        let (old, new) = (objectID("old", size: Self.size), objectID("new", size: Self.size))
        let bytes = expectedBytes(1, 0..<Self.size)
        let source = CountingSource()
        do {
            let bench = try CacheBench(in: directory)
            _ = try await cached(old, in: bench.cache)
            #expect(bench.cache.rename(old, to: new))
            #expect(bench.cache.presence(of: old).bytes == 0)
            #expect(bench.cache.presence(of: new).isComplete)
            let object = bench.cache.object(new, source: source)
            #expect(try await readRange(object, 0..<Self.size) == bytes)
            #expect(bench.cache.verify(new) == 0)
            #expect(bench.cache.statistics().tiers[0].used == (Self.size + 4095) & ~4095, "its bytes count once")
            await bench.cache.shutdown()
        }
        let bench = try CacheBench(in: directory)
        let object = bench.cache.object(new, source: source)
        #expect(try await readRange(object, 0..<Self.size) == bytes)
        #expect(source.ranges.isEmpty)
        #expect(bench.cache.presence(of: old).bytes == 0)
    }

    @Test func whoReadsTheOldNameGoesOn() async throws {
        let bench = try CacheBench()
        let (old, new) = (objectID("old", size: Self.size), objectID("new", size: Self.size))
        let object = try await cached(old, in: bench.cache)
        let loan = try object.loan()
        #expect(bench.cache.rename(old, to: new))
        let target = bench.cache.object(new, source: CountingSource())
        #expect(try await readRange(target, 0..<Self.size) == expectedBytes(1, 0..<Self.size))
        // Its blocks are gone from the old map, or the file has them still: never anything else.
        if let bytes = try readPresent(loan, 0..<Self.size) { #expect(bytes == expectedBytes(1, 0..<Self.size)) }
        #expect(try await readRange(object, 0..<Self.size) == expectedBytes(1, 0..<Self.size))
        bench.cache.free(new)
        #expect(try await readRange(object, 0..<Self.size) == expectedBytes(1, 0..<Self.size))
        loan.close()
    }

    @Test func whatIsNotWholeOrHasNoPlaceStaysWhereItIs() async throws {
        let bench = try CacheBench()
        let (old, new) = (objectID("old", size: Self.size), objectID("new", size: Self.size))
        #expect(!bench.cache.rename(old, to: new), "nothing is cached")
        let object = bench.cache.object(old, source: CountingSource())
        _ = try await object.ensure(0..<1)
        #expect(!bench.cache.rename(old, to: new), "only its start is cached")
        _ = try await object.ensure(0..<Self.size)
        #expect(!bench.cache.rename(old, to: objectID("new", size: Self.size - 1)), "other bytes, by the size")
        #expect(!bench.cache.rename(old, to: old))
        let target = bench.cache.object(new, source: CountingSource())
        _ = try await target.ensure(0..<1)
        #expect(!bench.cache.rename(old, to: new), "something is cached there")
        #expect(bench.cache.presence(of: old).isComplete)
        #expect(try await readRange(object, 0..<Self.size) == expectedBytes(1, 0..<Self.size))
    }
}
