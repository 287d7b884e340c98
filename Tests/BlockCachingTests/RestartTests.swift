import BlockMaps
import Glibc
import Platform
import Testing

@testable import BlockCaching

@Suite struct RestartTests {
    private let large = objectID("large", size: 3 << 20)
    private let small = objectID("small", size: 300_000)

    /// Fills a cache with a large object (partly) and a small one (whole) and returns its directory as a stop leaves
    /// it.
    private func filled(cleanly: Bool) async throws -> TemporaryDirectory {
        let bench = try CacheBench()
        let first = bench.cache.object(large, source: CountingSource(seed: 1))
        let second = bench.cache.object(small, source: CountingSource(seed: 2))
        _ = try await first.ensure(0..<1 << 20)
        _ = try await first.ensure(2 << 20..<3 << 20)
        _ = try await second.ensure(0..<300_000)
        await bench.cache.flush()
        if cleanly {
            await bench.cache.shutdown()
            return bench.directory
        }
        let copy = TemporaryDirectory()
        try copyTree(bench.directory.path, copy.path)
        return copy
    }

    private func expectServedFromCache(_ bench: CacheBench) async throws {
        let source = CountingSource(seed: 1)
        let first = bench.cache.object(large, source: source)
        #expect(try await readRange(first, 0..<1 << 20) == expectedBytes(1, 0..<1 << 20))
        #expect(try await readRange(first, 2 << 20..<3 << 20) == expectedBytes(1, 2 << 20..<3 << 20))
        #expect(source.ranges.isEmpty)
        let other = CountingSource(seed: 2)
        let second = bench.cache.object(small, source: other)
        #expect(second.isComplete)
        #expect(try await readRange(second, 0..<300_000) == expectedBytes(2, 0..<300_000))
        #expect(other.ranges.isEmpty)
    }

    @Test func aCleanStopKeepsEverything() async throws {
        let bench = try await CacheBench(in: filled(cleanly: true))
        #expect(bench.cache.statistics().tiers[0].used == (2 << 20) + 303_104)
        try await expectServedFromCache(bench)
        #expect(try bench.cache.object(small, source: CountingSource()).passthroughLoan() != nil)
    }

    @Test func aCleanStopIsTrustedByTheNextBoot() async throws {
        let bench = try await CacheBench(in: filled(cleanly: true)) { $0.bootIdentifier = "boot-2" }
        #expect(try bench.cache.object(small, source: CountingSource()).passthroughLoan() != nil)
        try await expectServedFromCache(bench)
    }

    @Test func aKillInTheSameBootKeepsWhatWasFlushed() async throws {
        let bench = try await CacheBench(in: filled(cleanly: false))
        try await expectServedFromCache(bench)
    }

    @Test func aCrashOfTheMachineKeepsWhatItsChecksumsProve() async throws {
        let bench = try await CacheBench(in: filled(cleanly: false)) { $0.bootIdentifier = "boot-2" }
        let object = bench.cache.object(large, source: CountingSource(seed: 1))
        #expect(object.presentBytes == 0, "shown before it was verified")
        try await expectServedFromCache(bench)
        #expect(object.presentBytes == 2 << 20)
        #expect(bench.cache.statistics().damagedBlocks == 0)
    }

    @Test func damagedBytesAreFoundAfterACrashAndFetchedAgain() async throws {
        let directory = try await filled(cleanly: false)
        for offset in [0, 700_000, 2_500_000] as [UInt64] {
            try flipByte(of: large, at: offset, in: directory.path + "/ssd")
        }
        try flipByte(of: small, at: 299_999, in: directory.path + "/ssd")
        let bench = try CacheBench(in: directory) { $0.bootIdentifier = "boot-2" }
        let source = CountingSource(seed: 1)
        let first = bench.cache.object(large, source: source)
        #expect(try await readRange(first, 0..<3 << 20) == expectedBytes(1, 0..<3 << 20))
        #expect(source.fetchedBytes == (1 << 20) + 3 * 16_384)
        let other = CountingSource(seed: 2)
        let second = bench.cache.object(small, source: other)
        #expect(!second.isComplete)
        #expect(try await readRange(second, 0..<300_000) == expectedBytes(2, 0..<300_000))
        #expect(other.ranges == [294_912..<300_000])
        #expect(bench.cache.statistics().damagedBlocks == 4)
    }

    @Test func wholeFilesAreLentAfterACrashOnlyOnceVerified() async throws {
        let bench = try CacheBench()
        let id = objectID("whole", size: 3 << 20)
        _ = try await bench.cache.object(id, source: CountingSource()).ensure(0..<3 << 20)
        await bench.cache.flush()
        let copy = TemporaryDirectory()
        try copyTree(bench.directory.path, copy.path)
        let next = try CacheBench(in: copy) { $0.bootIdentifier = "boot-2" }
        let source = CountingSource()
        let object = next.cache.object(id, source: source)
        #expect(try object.passthroughLoan() == nil)
        let loan = try object.loan()  // starts the verification
        #expect(!loan.isComplete)
        while !object.isComplete { await Task.yield() }
        #expect(try object.passthroughLoan() != nil)
        #expect(source.ranges.isEmpty)
    }

    @Test func suspicionOutlivesAnotherUncleanStop() async throws {
        let directory = try await filled(cleanly: false)
        try flipByte(of: large, at: 2_500_000, in: directory.path + "/ssd")
        let bench = try CacheBench(in: directory) { $0.bootIdentifier = "boot-2" }
        _ = try await bench.cache.object(large, source: CountingSource(seed: 1)).ensure(0..<16_384)
        await bench.cache.flush()
        let copy = TemporaryDirectory()
        try copyTree(directory.path, copy.path)
        // The same boot again: what the previous process never verified is still suspect.
        let next = try CacheBench(in: copy) { $0.bootIdentifier = "boot-2" }
        let object = next.cache.object(large, source: CountingSource(seed: 1))
        #expect(try await readRange(object, 0..<3 << 20) == expectedBytes(1, 0..<3 << 20))
        #expect(next.cache.statistics().damagedBlocks == 1)
    }

    @Test(arguments: ["missing data", "short data", "missing map", "foreign map", "empty map"])
    func cacheFilesThatAreGoneOrDamagedAreFetchedAgain(damage: String) async throws {
        let directory = try await filled(cleanly: true)
        let base = files(under: directory.path + "/ssd/objects").first {
            $0.contains(large.digest.description) && $0.hasSuffix(".data")
        }
        let data = try #require(base)
        let map = data.dropLast(5) + ".map"
        switch damage {
        case "missing data": #expect(unlink(data) == 0)
        case "short data": try Descriptor.open(data, O_RDWR).resize(to: 1000)
        case "missing map": #expect(unlink(String(map)) == 0)
        case "foreign map":
            let other = try BlockMap(
                #require(BlockGeometry(objectSize: 3 << 20, blockSize: 16384)), digest: ObjectDigest(high: 1, low: 1))
            try other.save(to: Descriptor.open(String(map), O_RDWR))
        default: try Descriptor.open(String(map), O_RDWR).resize(to: 0)
        }
        let bench = try CacheBench(in: directory)
        let source = CountingSource(seed: 1)
        let object = bench.cache.object(large, source: source)
        #expect(try await readRange(object, 0..<3 << 20) == expectedBytes(1, 0..<3 << 20))
        #expect(source.fetchedBytes == 3 << 20)
        await bench.cache.flush()
        let tier = bench.cache.statistics().tiers[0]
        #expect(tier.used == (3 << 20) + 303_104 && tier.files == 2)
    }

    @Test func anEvictionBeforeAKillLeavesNoClaimOnItsHole() async throws {
        let bench = try CacheBench(blockSize: 1 << 20)
        let id = objectID("big", size: 40 << 20)
        let object = bench.cache.object(id, source: CountingSource(chunk: 1 << 20))
        _ = try await object.ensure(0..<39 << 20)  // not complete: a complete file would be unlinked as a whole
        await bench.cache.flush()
        let entry = try #require(bench.cache.engine.live(object.digest, retaining: false))
        guard case .freed(16_777_216) = entry.evict(1, from: bench.cache.engine.tiers[0]) else {
            Issue.record("not evicted")
            return
        }
        // Killed before the index heard of it.
        let copy = TemporaryDirectory()
        try copyTree(bench.directory.path, copy.path)
        let next = try CacheBench(blockSize: 1 << 20, in: copy)
        let source = CountingSource(chunk: 1 << 20)
        let again = next.cache.object(id, source: source)
        #expect(again.presentBytes == 23 << 20)
        #expect(
            try await readRange(again, 20 << 20..<(20 << 20) + 100) == expectedBytes(1, 20 << 20..<(20 << 20) + 100))
    }

    /// The kernel goes on reading a passthrough file when the process that was lent it, or the coordinator, has died.
    @Test func readersOfAWholeFileThatNobodyKnowsAnyMoreNeverSeeAHole() async throws {
        let bench = try CacheBench(blockSize: 1 << 20)
        let id = objectID("whole", size: 20 << 20)
        let object = bench.cache.object(id, source: CountingSource(chunk: 1 << 20))
        _ = try await object.ensure(0..<20 << 20)
        let loan = try #require(try object.passthroughLoan())
        await bench.cache.shutdown()
        let next = try CacheBench(blockSize: 1 << 20, in: bench.directory)
        #expect(next.cache.free(id) == 20 << 20)
        let again = next.cache.object(id, source: CountingSource(seed: 2, chunk: 1 << 20))
        _ = try await again.ensure(0..<20 << 20)
        #expect(try readPresent(loan, 0..<20 << 20) == expectedBytes(1, 0..<20 << 20))
        // The same within one coordinator, once the loan is over.
        let second = try #require(try again.passthroughLoan())
        second.close()
        await next.cache.fetchesEnd()
        let entry = try #require(next.cache.engine.live(id.digest, retaining: false))
        guard case .freed(20_971_520) = entry.evict(1, from: next.cache.engine.tiers[0]) else {
            Issue.record("not evicted as a whole")
            return
        }
        #expect(try readPresent(second, 0..<20 << 20) == expectedBytes(2, 0..<20 << 20))
    }

    /// A mount that has not reconnected yet reads by the map that the former coordinator gave it, which nobody clears.
    @Test func anIncompleteFileOfAFormerCoordinatorIsUnlinkedAndNeverPunched() async throws {
        let bench = try CacheBench(blockSize: 1 << 20)
        let id = objectID("part", size: 60 << 20)
        let object = bench.cache.object(id, source: CountingSource(chunk: 1 << 20))
        _ = try await object.ensure(0..<40 << 20)
        let loan = try object.loan()
        #expect(!loan.isComplete)
        await bench.cache.shutdown()
        let next = try CacheBench(blockSize: 1 << 20, in: bench.directory)
        let again = next.cache.object(id, source: CountingSource(seed: 2, chunk: 1 << 20))
        #expect(again.presentBytes == 40 << 20)
        let tier = next.cache.engine.tiers[0]
        let entry = try #require(next.cache.engine.live(id.digest, retaining: false))
        // One extent of 16 MiB is asked for, and all goes.
        guard case .freed(41_943_040) = entry.evict(1, from: tier) else {
            Issue.record("not evicted as a whole")
            return
        }
        #expect(try readPresent(loan, 0..<40 << 20) == expectedBytes(1, 0..<40 << 20))
        #expect(try loan.data.status().links == 0)
        #expect(again.presentBytes == 0)
        // Its successor is this coordinator's own, which may punch it.
        _ = try await again.ensure(0..<40 << 20)
        guard case .freed(16_777_216) = entry.evict(1, from: tier) else {
            Issue.record("not punched")
            return
        }
        #expect(again.presentBytes == 24 << 20)
        #expect(try readPresent(loan, 0..<40 << 20) == expectedBytes(1, 0..<40 << 20))
    }

    @Test func orphansOfAKillAreRemoved() async throws {
        let directory = try await filled(cleanly: false)
        let orphan = directory.path + "/ssd/objects/ab/abababababababababababababababab.data"
        try TierDirectory.makeDirectories(directory.path + "/ssd/objects/ab")
        _ = try Descriptor.open(orphan, O_RDWR | O_CREAT)
        let bench = try CacheBench(in: directory)
        while bench.cache.statistics().isRestoring { await Task.yield() }
        #expect(access(orphan, F_OK) != 0)
        try await expectServedFromCache(bench)
    }

    @Test func aWipedTierLosesItsRecords() async throws {
        let directory = try await filled(cleanly: true)
        let index = directory.path + "/index"
        #expect(rename(directory.path + "/ssd/index", index) == 0)
        removeTree(directory.path + "/ssd")
        let bench = try CacheBench(in: directory) { $0.indexDirectory = index }
        let source = CountingSource(seed: 2)
        let object = bench.cache.object(small, source: source)
        #expect(!object.isComplete && bench.cache.statistics().tiers[0].used == 0)
        #expect(try await readRange(object, 0..<300_000) == expectedBytes(2, 0..<300_000))
        while bench.cache.statistics().isRestoring { await Task.yield() }
        await bench.cache.flush()
        #expect(try bench.cache.engine.index?.record(large.digest) == nil)
    }

    @Test func theQueuesOfThePolicyAreRestored() async throws {
        let bench = try await CacheBench(in: filled(cleanly: true))
        while bench.cache.statistics().isRestoring { await Task.yield() }
        #expect(bench.cache.statistics().tiers[0].extents == 2)
        #expect(bench.cache.free(where: { _ in true }) == (2 << 20) + 303_104)
    }

    @Test func aFullTierFromBeforeTheStartStillMakesRoom() async throws {
        let bench = try CacheBench(quota: 4 << 20)
        for number in 0..<6 {
            let object = bench.cache.object(objectID("o\(number)", size: 600 << 10), source: CountingSource())
            _ = try await object.ensure(0..<600 << 10)
        }
        await bench.cache.shutdown()
        let next = try CacheBench(quota: 4 << 20, in: bench.directory)
        let object = next.cache.object(objectID("new", size: 2 << 20), source: CountingSource(seed: 9))
        for start in stride(from: 0 as UInt64, to: 2 << 20, by: 256 << 10) {
            guard case .cached = try await object.ensure(start..<start + 256 << 10) else {
                Issue.record("read past the cache"); return
            }
        }
        #expect(next.cache.statistics().tiers[0].evictions > 0)
    }
}

extension RestartTests {
    @Test func afterADiskErrorEverythingIsVerifiedEvenInTheSameBoot() async throws {
        let bench = try CacheBench()
        let id = objectID("o", size: 2 << 20)
        _ = try await bench.cache.object(id, source: CountingSource()).ensure(0..<2 << 20)
        await bench.cache.flush()
        bench.cache.engine.noteFailure(of: bench.cache.engine.tiers[0], .ioError, doing: "a test")
        await bench.cache.shutdown()
        try flipByte(of: id, at: 1_000_000, in: bench.configuration.tiers[0].path)
        let next = try CacheBench(in: bench.directory)
        let source = CountingSource()
        let object = next.cache.object(id, source: source)
        #expect(try await readRange(object, 0..<2 << 20) == expectedBytes(1, 0..<2 << 20))
        #expect(next.cache.statistics().damagedBlocks == 1 && source.fetchedBytes == 16_384)
    }
}
