import BlockMaps
import Platform
import Testing

@testable import BlockCaching

/// Many tasks read random ranges of many objects at once, by the reader protocol and every other way, from tiers far
/// too small for them, while objects are freed, verified and lent whole: every byte must be right.
@Suite struct ConcurrencyTests {
    private static let objects = 12
    private static func size(_ number: Int) -> UInt64 {
        [3_000_001, 700_000, 65_536, 1_048_577, 20_000_000, 1][number % 6]
    }
    private static func id(_ number: Int) -> CachedObjectID { objectID("o\(number)", size: size(number)) }

    @Test(arguments: [1, 2, 3, 4]) func everyByteIsRightUnderPressure(seed: Int) async throws {
        let bench = try CacheBench(quota: 6 << 20) { configuration in
            configuration.maximumFetches = 8
            configuration.maximumFetchSize = 256 << 10
            if seed % 2 == 0 {
                configuration.tiers.insert(
                    TierConfiguration(path: configuration.tiers[0].path + "-ram", kind: .ram, quota: 3 << 20), at: 0)
            }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask {
                    try await Self.readRandomly(bench.cache, SeededRandom(seed: UInt64(seed * 100 + task)), steps: 60)
                }
            }
            group.addTask { await Self.disturb(bench.cache, SeededRandom(seed: UInt64(seed)), steps: 60) }
            try await group.waitForAll()
        }
        await bench.cache.fetchesEnd()
        await bench.cache.quiesceEviction()
        let statistics = bench.cache.statistics()
        #expect(statistics.damagedBlocks == 0)
        #expect(statistics.fetchesInFlight == 0 && statistics.fetchesQueued == 0)
        for tier in statistics.tiers { #expect(tier.used <= tier.quota && tier.pinned == 0 && tier.state == .ok) }
        for tier in bench.cache.engine.tiers {
            #expect(tier.state.withLock { $0.reserved } == 0, "a reservation was not given back")
        }
        try await expectAccountsToMatchTheFiles(bench)
    }

    private static func readRandomly(_ cache: BlockCache, _ start: SeededRandom, steps: Int) async throws {
        var random = start
        for _ in 0..<steps {
            let number = Int.random(in: 0..<objects, using: &random)
            let size = size(number)
            let object = cache.object(id(number), source: CountingSource(seed: UInt64(number)))
            let low = UInt64.random(in: 0..<size, using: &random)
            let high = min(
                size, low + 1 + UInt64.random(in: 0..<(Bool.random(using: &random) ? 5000 : 600_000), using: &random))
            let expected = expectedBytes(UInt64(number), low..<high)
            switch Int.random(in: 0..<8, using: &random) {
            case 0: object.prefetch(low..<high)
            case 1:
                let passed = try #require(try await object.readThrough(low..<high))
                #expect(try read(passed, low..<high) == expected)
            case 2:
                if let loan = try object.passthroughLoan() {
                    await Task.yield()
                    #expect(try readPresent(loan, low..<high) == expected)
                }
            case 3:
                let abandoned = Task { try await object.ensure(low..<high) }
                await Task.yield()
                abandoned.cancel()
                _ = try? await abandoned.value
            default: #expect(try await readRange(object, low..<high) == expected, "\(number) \(low)..<\(high)")
            }
            object.recordAccess(low..<high)
        }
    }

    private static func disturb(_ cache: BlockCache, _ start: SeededRandom, steps: Int) async {
        var random = start
        for _ in 0..<steps {
            let number = Int.random(in: 0..<objects, using: &random)
            switch Int.random(in: 0..<4, using: &random) {
            case 0: cache.free(id(number))
            case 1: #expect(cache.verify(id(number)) == 0)
            case 2: await cache.flush()
            default: _ = cache.presence(of: id(number))
            }
            await Task.yield()
        }
    }

    /// After an orderly stop, what the tiers count is what the maps show.
    private func expectAccountsToMatchTheFiles(_ bench: CacheBench) async throws {
        await bench.cache.stopFetching()
        await bench.cache.quiesceEviction()
        expectAccounts(
            of: bench.cache,
            (0..<Self.objects).map {
                bench.cache.object(Self.id($0), source: CountingSource(seed: UInt64($0)))
            })
        await bench.cache.shutdown()
        let next = try BlockCache(configuration: bench.configuration, logger: quietLogger())
        let objects = (0..<Self.objects).map { next.object(Self.id($0), source: CountingSource(seed: UInt64($0))) }
        expectAccounts(of: next, objects)
        for (number, object) in objects.enumerated() {
            let size = Self.size(number)
            let range = size / 3..<min(size, size / 3 + 200_000)
            #expect(try await readRange(object, range) == expectedBytes(UInt64(number), range))
        }
        await next.shutdown()
    }

    private func expectAccounts(of cache: BlockCache, _ objects: [CachedObject]) {
        let present = objects.reduce(0) { $0 + $1.presentBytes }
        let used = cache.statistics().tiers.reduce(0) { $0 + $1.used }
        #expect(used >= present && used < present + UInt64(objects.count) * 4096, "counted \(used), present \(present)")
    }
}
