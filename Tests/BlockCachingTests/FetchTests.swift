import BlockMaps
import Platform
import Testing

@testable import BlockCaching

@Suite struct FetchTests {
    @Test func aRangeIsFetchedOnceInWholeBlocksAndReadBack() async throws {
        let bench = try CacheBench()
        let source = CountingSource()
        let object = bench.cache.object(objectID(size: 1_000_000), source: source)
        let bytes = try await readRange(object, 20_000..<60_001)
        #expect(bytes == expectedBytes(1, 20_000..<60_001))
        #expect(source.ranges == [16_384..<65_536])
        _ = try await object.ensure(16_384..<65_536)
        #expect(source.ranges.count == 1)
        #expect(object.presentBytes == 49_152)
        #expect(!object.isComplete)
    }

    @Test func theLastBlockIsShortAndTheWholeObjectCompletes() async throws {
        let bench = try CacheBench()
        let source = CountingSource()
        let object = bench.cache.object(objectID(size: 100_001), source: source)
        _ = try await object.ensure(0..<200_000)
        #expect(object.isComplete)
        #expect(object.presentBytes == 100_001)
        let loan = try object.loan()
        #expect(loan.isComplete)
        #expect(try readPresent(loan, 0..<100_001) == expectedBytes(1, 0..<100_001))
    }

    @Test func anEmptyObjectIsCompleteWithoutAnyFetch() async throws {
        let bench = try CacheBench()
        let source = CountingSource()
        let object = bench.cache.object(objectID(size: 0), source: source)
        guard case .cached = try await object.ensure(0..<10) else { Issue.record("not cached"); return }
        #expect(try object.loan().isComplete)
        #expect(source.ranges.isEmpty)
    }

    @Test func manyReadersOfOneRangeShareOneFetch() async throws {
        let bench = try CacheBench()
        let source = CountingSource()
        source.hold()
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<50 {
                group.addTask {
                    let bytes = try await readRange(object, 0..<100_000)
                    #expect(bytes == expectedBytes(1, 0..<100_000))
                }
            }
            await source.begun(1)
            source.letGo()
            try await group.waitForAll()
        }
        #expect(source.ranges == [0..<114_688])
    }

    @Test func overlappingRangesNeverOverlapInTheStore() async throws {
        let bench = try CacheBench()
        let source = CountingSource()
        source.hold()
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        async let first = object.ensure(0..<65_536)
        await source.begun(1)
        async let second = object.ensure(32_768..<131_072)
        await source.begun(2)
        source.letGo()
        _ = try await (first, second)
        #expect(source.ranges == [0..<65_536, 65_536..<131_072])
        #expect(bench.cache.statistics().bytesCoalesced == 32_768)
    }

    @Test func blocksThatHaveArrivedAreShownToAReaderWhoComesLater() async throws {
        let bench = try CacheBench { $0.maximumFetchSize = 1 << 20 }
        let source = StepwiseSource()
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        object.prefetch(0..<1 << 20)
        await source.begun()
        source.deliver(40_000)
        // Nothing more comes, so only the reader's own coming can have them written.
        _ = try await object.ensure(0..<32_768)
        #expect(object.presentBytes == 32_768)
        #expect(try await readRange(object, 0..<32_768) == expectedBytes(1, 0..<32_768))
        source.deliver(1 << 20)
        #expect(try await readRange(object, 0..<1 << 20) == expectedBytes(1, 0..<1 << 20))
    }

    @Test func aFetchThatFailsKeepsNoRoomOnTheDiskForWhatDidNotCome() async throws {
        let bench = try CacheBench { $0.maximumFetchSize = 8 << 20 }
        let source = CountingSource()
        source.fail(fetch: 0, after: 1_500_000)
        let object = bench.cache.object(objectID(size: 8 << 20), source: source)
        await #expect(throws: PlannedFailure(number: 0)) { try await object.ensure(0..<8 << 20) }
        let file = try #require(files(under: bench.directory.path).first { $0.hasSuffix(".data") })
        let kept: UInt64 = 1_500_000 / 16_384 * 16_384
        #expect(object.presentBytes == kept)
        #expect(try FileStatus(of: file).blocks * 512 < kept + 65_536)
        #expect(try await readRange(object, 0..<8 << 20) == expectedBytes(1, 0..<8 << 20))
    }

    @Test func aReaderWaitsForItsOwnBlocksOnly() async throws {
        let bench = try CacheBench { $0.maximumFetchSize = 32 << 10 }
        let source = StepwiseSource()
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        object.prefetch(0..<32_768)
        await source.begun()
        async let near = object.ensure(0..<16_384)
        source.deliver(16_384)
        _ = try await near  // returns although the second block of the fetch has not come
        #expect(object.presentBytes == 16_384)
        source.deliver(16_384)
        _ = try await object.ensure(0..<32_768)
    }

    @Test func aLongGapIsFetchedInParallelRuns() async throws {
        let bench = try CacheBench { $0.maximumFetchSize = 64 << 10 }
        let source = CountingSource()
        source.hold()
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        async let all = object.ensure(0..<262_144)
        await source.begun(4)  // all four run at once
        source.letGo()
        _ = try await all
        #expect(
            source.ranges.sorted { $0.lowerBound < $1.lowerBound } == [
                0..<65_536, 65_536..<131_072, 131_072..<196_608, 196_608..<262_144,
            ])
    }

    @Test func aFailedFetchFailsItsWaitersAndTheNextCallTriesAgain() async throws {
        let bench = try CacheBench()
        let source = CountingSource()
        source.fail(fetch: 0, after: 40_000)
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        await #expect(throws: PlannedFailure(number: 0)) { try await object.ensure(0..<65_536) }
        // Two whole blocks came before the failure and are kept; the third was cut and is not.
        #expect(object.presentBytes == 32_768)
        _ = try await object.ensure(0..<65_536)
        #expect(source.ranges == [0..<65_536, 32_768..<65_536])
        #expect(try await readRange(object, 0..<65_536) == expectedBytes(1, 0..<65_536))
    }

    @Test func aFailureReachesOnlyThoseWhoWaitForIt() async throws {
        let bench = try CacheBench()
        let source = CountingSource()
        source.hold()
        source.fail(fetch: 1)
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        async let sound = object.ensure(0..<16_384)
        await source.begun(1)
        let broken = Task { try await object.ensure(32_768..<49_152) }
        await source.begun(2)
        source.letGo()
        _ = try await sound
        await #expect(throws: PlannedFailure(number: 1)) { try await broken.value }
    }

    @Test func aSourceThatDeliversTooLittleIsFoundOut() async throws {
        let bench = try CacheBench()
        let object = bench.cache.object(objectID(size: 1 << 20), source: ShortSource())
        await #expect(throws: CacheError.self) { try await object.ensure(0..<65_536) }
        #expect(object.presentBytes == 32_768)
    }

    @Test func cancellingOneReaderLeavesTheOthersTheirFetch() async throws {
        let bench = try CacheBench()
        let source = CountingSource()
        source.hold()
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        let first = Task { try await object.ensure(0..<65_536) }
        await source.begun(1)
        async let second = object.ensure(0..<16_384)
        while bench.cache.statistics().bytesCoalesced == 0 { await Task.yield() }
        first.cancel()
        await #expect(throws: CancellationError.self) { try await first.value }
        source.letGo()
        _ = try await second
        #expect(source.ranges.count == 1)
        #expect(source.state.withLock { $0.cancelled } == 0)
    }

    @Test func theLastReaderToLeaveCancelsTheFetchAndTheNextStartsAnew() async throws {
        let bench = try CacheBench()
        let source = CountingSource()
        source.hold()
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        let only = Task { try await object.ensure(0..<65_536) }
        await source.begun(1)
        only.cancel()
        await #expect(throws: CancellationError.self) { try await only.value }
        async let next = object.ensure(0..<65_536)
        source.letGo()
        _ = try await next
        #expect(try await readRange(object, 0..<65_536) == expectedBytes(1, 0..<65_536))
        #expect(source.state.withLock { $0.cancelled } == 1)
    }

    @Test func prefetchErrorsAreCountedAndDropped() async throws {
        let bench = try CacheBench()
        let source = CountingSource()
        source.fail(fetch: 0)
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        object.prefetch(0..<65_536)
        while bench.cache.statistics().droppedPrefetchErrors == 0 { await Task.yield() }
        _ = try await object.ensure(0..<65_536)
        #expect(source.ranges.count == 2)
    }

    @Test func demandsPassQueuedPrefetches() async throws {
        let bench = try CacheBench {
            $0.maximumFetches = 1
            $0.maximumFetchSize = 16 << 10
        }
        let source = CountingSource()
        source.hold()
        let object = bench.cache.object(objectID(size: 1 << 20), source: source)
        object.prefetch(0..<81_920)  // five fetches, one of which runs
        await source.begun(1)
        async let demanded = object.ensure(524_288..<540_672)
        while bench.cache.statistics().fetchesQueued < 5 { await Task.yield() }
        source.letGo()
        _ = try await demanded
        _ = try await object.ensure(0..<81_920)
        #expect(source.ranges[1] == 524_288..<540_672)
    }
}

/// Delivers on command.
final class StepwiseSource: BlockSource {
    private struct State {
        var budget = 0
        var hasBegun = false
        var waiting: CheckedContinuation<Void, Never>?
        var observer: CheckedContinuation<Void, Never>?
    }
    private let state = Lock(State())

    func begun() async {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                if !state.hasBegun { state.observer = continuation }
                return state.hasBegun
            }
            if isOver { continuation.resume() }
        }
    }

    func deliver(_ bytes: Int) {
        let waiting = state.withLock { state in
            state.budget += bytes
            defer { state.waiting = nil }
            return state.waiting
        }
        waiting?.resume()
    }

    func fetch(_ range: Range<UInt64>, into sink: any BlockSink) async throws {
        let observer = state.withLock { state in
            state.hasBegun = true
            defer { state.observer = nil }
            return state.observer
        }
        observer?.resume()
        var offset = range.lowerBound
        while offset < range.upperBound {
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let passes = state.withLock { state in
                    if state.budget == 0 { state.waiting = continuation }
                    return state.budget > 0
                }
                if passes { continuation.resume() }
            }
            let count = state.withLock { state in
                let count = min(state.budget, Int(range.upperBound - offset))
                state.budget -= count
                return count
            }
            try expectedBytes(1, offset..<offset + UInt64(count)).withUnsafeBytes { try sink.receive($0, at: offset) }
            offset += UInt64(count)
        }
    }
}

/// Claims success after 40 000 bytes.
private struct ShortSource: BlockSource {
    func fetch(_ range: Range<UInt64>, into sink: any BlockSink) async throws {
        try expectedBytes(1, range.lowerBound..<range.lowerBound + 40_000).withUnsafeBytes {
            try sink.receive($0, at: range.lowerBound)
        }
    }
}
