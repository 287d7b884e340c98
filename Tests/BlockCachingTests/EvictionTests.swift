import BlockMaps
import Platform
import Testing

@testable import BlockCaching

@Suite struct EvictionTests {
    @Test func theTierStaysBelowItsQuotaAndGivesBackTheSpaceOnDisk() async throws {
        let bench = try CacheBench(quota: 4 << 20)
        for number in 0..<20 {
            let object = bench.cache.object(
                objectID("o\(number)", size: 1 << 20), source: CountingSource(seed: UInt64(number)))
            #expect(try await readRange(object, 0..<1 << 20) == expectedBytes(UInt64(number), 0..<1 << 20))
            let tier = bench.cache.statistics().tiers[0]
            #expect(tier.used <= tier.quota, "object \(number)")
        }
        let tier = bench.cache.statistics().tiers[0]
        #expect(tier.evictions > 0 && tier.state == .ok)
        let onDisk = try files(under: bench.directory.path + "/ssd/objects").reduce(0) {
            try $0 + FileStatus(of: $1).blocks * 512
        }
        #expect(onDisk <= (4 << 20) + (1 << 20), "\(onDisk) bytes are still allocated")
    }

    @Test func partsOfALargeLentObjectAreEvictedAndComeBackInTheSameMap() async throws {
        let bench = try CacheBench(quota: 48 << 20, blockSize: 1 << 20)
        let size: UInt64 = 80 << 20
        let source = CountingSource(chunk: 1 << 20)
        let object = bench.cache.object(objectID(size: size), source: source)
        let loan = try object.loan()
        let reader = try BlockMapReader(try #require(loan.map))
        let epoch = reader.epoch()
        for start in stride(from: 0, to: size, by: 4 << 20) { _ = try await object.ensure(start..<start + 4 << 20) }
        #expect(!reader.isUnchanged(since: epoch))
        #expect(bench.cache.statistics().tiers[0].used <= 48 << 20)
        // The first extent went first; its hole is not shown, and what comes back is shown in the map that was lent.
        #expect(!reader.isPresent(offset: 0, length: 1))
        _ = try await object.ensure(0..<1 << 20)
        #expect(try readPresent(loan, 0..<4096) == expectedBytes(1, 0..<4096))
    }

    @Test func whatIsLentAsAWholeIsNeverEvicted() async throws {
        let bench = try CacheBench(quota: 8 << 20)
        let kept = bench.cache.object(objectID("kept", size: 3 << 20), source: CountingSource(seed: 99))
        _ = try await kept.ensure(0..<3 << 20)
        let loan = try #require(try kept.passthroughLoan())
        for number in 0..<12 {
            let object = bench.cache.object(
                objectID("o\(number)", size: 2 << 20), source: CountingSource(seed: UInt64(number)))
            _ = try await object.ensure(0..<2 << 20)
        }
        #expect(try readPresent(loan, 0..<3 << 20) == expectedBytes(99, 0..<3 << 20))
        #expect(bench.cache.free(kept.id) == 0)
        #expect(bench.cache.statistics().tiers[0].pinned == 3 << 20)
        loan.close()
        #expect(bench.cache.statistics().tiers[0].pinned == 0)
        #expect(bench.cache.free(kept.id) == 3 << 20)
    }

    @Test func passthroughLoansKeepToTheirShareOfTheQuota() async throws {
        let bench = try CacheBench(quota: 10 << 20) { $0.passthroughShare = 0.5 }
        var loans: [BlockLoan] = []
        for number in 0..<3 {
            let object = bench.cache.object(
                objectID("o\(number)", size: 2 << 20), source: CountingSource(seed: UInt64(number)))
            _ = try await object.ensure(0..<2 << 20)
            if let loan = try object.passthroughLoan() { loans.append(loan) }
        }
        #expect(loans.count == 2)
        // Over the share a complete file is lent with its map and may be evicted.
        let third = bench.cache.object(objectID("o2", size: 2 << 20), source: CountingSource(seed: 2))
        #expect(try third.passthroughLoan() == nil)
        #expect(try third.loan().map != nil)
    }

    @Test func noPassthroughBeforeTheObjectIsComplete() async throws {
        let bench = try CacheBench()
        let object = bench.cache.object(objectID(size: 1 << 20), source: CountingSource())
        #expect(try object.passthroughLoan() == nil)
        _ = try await object.ensure(0..<(1 << 20) - 1)
        #expect(try object.passthroughLoan() != nil)
    }

    @Test func whenEverythingIsKeptReadsGoPastTheCache() async throws {
        let bench = try CacheBench(quota: 4 << 20) {
            $0.passthroughShare = 1
            $0.highWatermark = 1
            $0.lowWatermark = 1
        }
        let kept = bench.cache.object(objectID("kept", size: 4 << 20), source: CountingSource(seed: 99))
        _ = try await kept.ensure(0..<4 << 20)
        let loan = try #require(try kept.passthroughLoan())
        let source = CountingSource(seed: 5)
        let other = bench.cache.object(objectID("other", size: 1 << 20), source: source)
        guard case .readThrough(let passed) = try await other.ensure(10_000..<50_000) else {
            Issue.record("the tier took what it has no room for")
            return
        }
        #expect(try read(passed, 10_000..<50_000) == expectedBytes(5, 10_000..<50_000))
        #expect(source.ranges == [0..<65_536])
        #expect(bench.cache.statistics().tiers[0].used == 4 << 20)
        loan.close()
        #expect(try await readRange(other, 0..<65_536) == expectedBytes(5, 0..<65_536))
        guard case .cached = try await other.ensure(0..<65_536) else { Issue.record("room was not used again"); return }
    }

    @Test func readersThatShareAFetchPastTheCacheShareItsBytes() async throws {
        let bench = try CacheBench(quota: 4 << 20) {
            $0.passthroughShare = 1
            $0.highWatermark = 1
            $0.lowWatermark = 1
        }
        let kept = bench.cache.object(objectID("kept", size: 4 << 20), source: CountingSource(seed: 99))
        _ = try await kept.ensure(0..<4 << 20)
        let loan = try #require(try kept.passthroughLoan())
        let source = CountingSource(seed: 5)
        source.hold()
        let other = bench.cache.object(objectID("other", size: 1 << 20), source: source)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for reader in 0..<10 {
                group.addTask {
                    let range = UInt64(reader) * 1000..<100_000
                    guard case .readThrough(let passed) = try await other.ensure(range) else {
                        Issue.record("cached")
                        return
                    }
                    #expect(try read(passed, range) == expectedBytes(5, range))
                }
            }
            while bench.cache.statistics().bytesCoalesced < 9 * 114_688 { await Task.yield() }
            source.letGo()
            try await group.waitForAll()
        }
        #expect(source.ranges.count == 1)
        loan.close()
    }

    @Test func freedObjectsLeaveNothingBehind() async throws {
        let bench = try CacheBench()
        for number in 0..<5 {
            let object = bench.cache.object(
                objectID("o\(number)", size: 3 << 20), source: CountingSource(seed: UInt64(number)))
            _ = try await object.ensure(0..<UInt64(number + 1) << 18)
        }
        await bench.cache.flush()
        #expect(bench.cache.free(where: { $0.key.hasPrefix("o") }) == (1 + 2 + 3 + 4 + 5) << 18)
        await bench.cache.flush()
        #expect(files(under: bench.directory.path + "/ssd/objects").isEmpty)
        let tier = bench.cache.statistics().tiers[0]
        #expect(tier.used == 0 && tier.files == 0 && tier.extents == 0)
        #expect(
            bench.cache.presence(of: objectID("o4", size: 3 << 20))
                == CachePresence(bytes: 0, isComplete: false, tierPath: nil))
    }

    @Test func idleObjectsLeaveMemory() async throws {
        let bench = try CacheBench()
        for number in 0..<50 {
            let object = bench.cache.object(
                objectID("o\(number)", size: 50_000), source: CountingSource(seed: UInt64(number)))
            _ = try await object.ensure(0..<50_000)
        }
        for _ in 0..<3 { await bench.cache.flush() }
        #expect(bench.cache.statistics().openObjects == 0)
        #expect(bench.cache.presence(of: objectID("o7", size: 50_000)).isComplete)
        // Small complete objects have no map file: their checksums are in the index.
        #expect(files(under: bench.directory.path + "/ssd/objects").count == 50)
    }
}
