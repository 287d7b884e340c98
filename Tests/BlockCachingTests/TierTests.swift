import Platform
import Testing

@testable import BlockCaching

@Suite struct TierTests {
    private func twoTiers(ram: UInt64 = 4 << 20, disk: UInt64 = 64 << 20) throws -> CacheBench {
        try CacheBench { configuration in
            let base = configuration.tiers[0].path
            configuration.probeInterval = .seconds(3600)
            configuration.tiers = [
                TierConfiguration(path: base + "-ram", kind: .ram, quota: ram),
                TierConfiguration(path: base, kind: .disk, quota: disk),
            ]
        }
    }

    @Test func dataEntersTheFastTierAndLargeObjectsTheNext() async throws {
        let bench = try twoTiers()
        let small = bench.cache.object(objectID("small", size: 1 << 20), source: CountingSource())
        let large = bench.cache.object(objectID("large", size: 2 << 20), source: CountingSource())
        _ = try await small.ensure(0..<1)
        _ = try await large.ensure(0..<1)
        #expect(small.tierPath == bench.configuration.tiers[0].path)
        #expect(large.tierPath == bench.configuration.tiers[1].path)
    }

    @Test func pressureDemotesToTheDiskWithoutAskingTheStoreAgain() async throws {
        let bench = try twoTiers()
        var sources: [CountingSource] = []
        for number in 0..<16 {
            let source = CountingSource(seed: UInt64(number))
            sources.append(source)
            let object = bench.cache.object(objectID("o\(number)", size: 512 << 10), source: source)
            _ = try await object.ensure(0..<512 << 10)
            await bench.cache.quiesceEviction()
        }
        let tiers = bench.cache.statistics().tiers
        #expect(tiers[0].used <= 4 << 20 && tiers[0].demotions > 0)
        #expect(tiers[0].used + tiers[1].used == 8 << 20)
        for number in 0..<16 {
            let object = bench.cache.object(objectID("o\(number)", size: 512 << 10), source: sources[number])
            #expect(try await readRange(object, 0..<512 << 10) == expectedBytes(UInt64(number), 0..<512 << 10))
            #expect(sources[number].ranges.count == 1, "object \(number) was fetched again")
        }
    }

    @Test func repeatedUsePromotesToTheFastTier() async throws {
        let bench = try twoTiers(ram: 32 << 20)
        let source = CountingSource(seed: 3)
        let id = objectID("hot", size: 2 << 20)
        let keep = bench.cache.object(objectID("kept", size: 2 << 20), source: CountingSource())
        _ = try await keep.ensure(0..<2 << 20)
        bench.cache.engine.noteFailure(of: bench.cache.engine.tiers[0], .noSpace, doing: "a test")
        let object = bench.cache.object(id, source: source)
        _ = try await object.ensure(0..<2 << 20)
        #expect(object.tierPath == bench.configuration.tiers[1].path)
        bench.cache.engine.tiers[0].state.withLock { $0.health = .ok }
        while bench.cache.statistics().tiers[0].promotions == 0 {
            try object.loan().close()
            await Task.yield()
        }
        #expect(object.tierPath == bench.configuration.tiers[0].path)
        #expect(try await readRange(object, 0..<2 << 20) == expectedBytes(3, 0..<2 << 20))
        #expect(source.fetchedBytes == 2 << 20)
        #expect(bench.cache.statistics().tiers[1].used == 0)
        await bench.cache.flush()
        #expect(files(under: bench.configuration.tiers[1].path + "/objects").isEmpty)
    }

    @Test func aMoveGivesUpWhenSomeoneUsesTheObject() async throws {
        let bench = try twoTiers()
        let object = bench.cache.object(objectID("o", size: 1 << 20), source: CountingSource())
        _ = try await object.ensure(0..<1 << 20)
        let loan = try object.loan()
        let engine = bench.cache.engine
        let entry = try #require(engine.live(object.digest, retaining: false))
        #expect(engine.tiers[1].reserveNow(1 << 20))
        #expect(!entry.move(to: engine.tiers[1], reserved: 1 << 20, unless: { false }))
        #expect(engine.tiers[1].state.withLock { $0.reserved } == 0)
        #expect(try readPresent(loan, 0..<100) == expectedBytes(1, 0..<100))
    }

    @Test func aDamagedBlockIsNotCarriedToAnotherTier() async throws {
        let bench = try twoTiers()
        let source = CountingSource()
        let object = bench.cache.object(objectID("o", size: 1 << 20), source: source)
        _ = try await object.ensure(0..<1 << 20)
        await bench.cache.fetchesEnd()
        try flipByte(of: object.id, at: 300_000, in: bench.configuration.tiers[0].path)
        let engine = bench.cache.engine
        let entry = try #require(engine.live(object.digest, retaining: false))
        #expect(engine.tiers[1].reserveNow(1 << 20))
        #expect(!entry.move(to: engine.tiers[1], reserved: 1 << 20, unless: { false }))
        #expect(bench.cache.statistics().damagedBlocks == 1)
        #expect(try await readRange(object, 0..<1 << 20) == expectedBytes(1, 0..<1 << 20))
        #expect(source.ranges.count == 3 && source.ranges[2] == 294_912..<311_296)
    }
}

extension BlockCache {
    /// Returns when no fetch is under way: a reader is woken before its fetch has ended.
    func fetchesEnd() async {
        while statistics().fetchesInFlight + statistics().fetchesQueued > 0 { await Task.yield() }
    }

    /// Returns when the eviction threads have done what they were asked so far.
    func quiesceEviction() async {
        for tier in engine.tiers {
            repeat {
                await withCheckedContinuation { continuation in tier.worker.submit { continuation.resume() } }
            } while tier.state.withLock { $0.isEvicting }
        }
    }
}

func flipByte(of id: CachedObjectID, at offset: UInt64, in tier: String) throws {
    let name = id.digest.description
    let file = try Descriptor.open("\(tier)/objects/\(name.prefix(2))/\(name).data", 2)
    var byte = [UInt8](repeating: 0, count: 1)
    _ = try byte.withUnsafeMutableBytes { try file.read(into: $0, at: offset) }
    byte[0] ^= 0xFF
    try byte.withUnsafeBytes { try file.write($0, at: offset) }
}
