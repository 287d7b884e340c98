import BlockMaps
import Platform
import SystemPackage

extension CacheEntry {
    func launch(_ fetch: Fetch) {
        let task = Task(executorPreference: engine.pool) { await self.run(fetch) }
        let isCancelled = state.withLock { _ in
            fetch.task = task
            return fetch.isCancelled
        }
        if isCancelled { task.cancel() }
    }

    private func run(_ fetch: Fetch) async {
        await engine.scheduler.acquire(fetch.ticket, urgency: fetch.urgency)
        var failure: (any Error)?
        do {
            try Task.checkCancellation()
            try await transfer(fetch)
        } catch {
            failure = error
        }
        finish(fetch, failure)
        engine.scheduler.release(fetch.ticket)
    }

    /// The fetch was a prefetch for which no tier has room.
    private struct Unwanted: Error {}

    private func transfer(_ fetch: Fetch) async throws {
        guard let geometry, let source = state.withLock({ $0.source }), !engine.isClosed else {
            throw CacheError.closed
        }
        if let file = fetch.file, try await transfer(fetch, into: file, from: source) { return }
        let (isAwaited, blocks, holdsBuffers) = state.withLock { _ in
            (fetch.isAwaited, fetch.outstanding, fetch.waiters.contains { !$0.isDone && !$0.buffers.isEmpty })
        }
        guard isAwaited else { throw Unwanted() }
        let range = geometry.bytes(of: blocks)
        let buffer = try await memory(for: range, evenOverLimit: holdsBuffers)
        state.withLock { _ in
            fetch.bypass = buffer
            fetch.bypassStart = blocks.lowerBound
        }
        engine.counters.fetches.add(1, ordering: .relaxed)
        engine.counters.bytesReadThrough.add(UInt64(range.count), ordering: .relaxed)
        let sink = FetchSink(
            entry: self, fetch: fetch, blocks: blocks, geometry: geometry, target: buffer.storage,
            base: range.lowerBound)
        try await fill(sink, range, of: fetch, from: source)
    }

    /// False when the tier cannot take the rest of the fetch.
    private func transfer(_ fetch: Fetch, into file: BlockFile, from source: any BlockSource) async throws -> Bool {
        let weight = Tier.weight(of: fetch.blocks, file.geometry)
        let evict = engine.eviction(of: file.tier)
        guard await file.tier.reserve(weight, evict: evict) else { return false }
        defer {
            let settled = Tier.weight(of: fetch.blocks.lowerBound..<fetch.next, file.geometry)
            file.tier.unreserve(weight - min(settled, weight), evict: evict)
        }
        engine.counters.fetches.add(1, ordering: .relaxed)
        let range = file.geometry.bytes(of: fetch.blocks)
        let isAllocated = allocate(range, in: file)
        defer { if isAllocated { giveBack(fetch, file) } }
        let sink = FetchSink(
            entry: self, fetch: fetch, blocks: fetch.blocks, geometry: file.geometry, target: file.data, base: 0)
        do {
            try await fill(sink, range, of: fetch, from: source)
        } catch {
            guard let failure = sink.failure else { throw error }
            engine.noteFailure(of: file.tier, failure, doing: "writing a cache file")
            return false
        }
        return true
    }

    /// Has the file system set aside the whole range at once, in few pieces and for less processor time than one write
    /// after another takes (docs/performance.md). Returns whether it did; a range of one write does not need it.
    private func allocate(_ range: Range<UInt64>, in file: BlockFile) -> Bool {
        guard file.tier.configuration.kind == .disk, UInt64(range.count) > FetchSink.runLength else { return false }
        // What did not come will be punched, which is for files alone that nobody unknown may read; see `withdrawWhole`.
        guard file.run == file.tier.run, !state.withLock({ $0.mayBeLentWhole }) else { return false }
        // A full disk or a file system without it shows at the writes.
        do throws(Errno) {
            let keepSize: Int32 = 1  // FALLOC_FL_KEEP_SIZE
            try file.data.allocate(mode: keepSize, at: range.lowerBound, length: UInt64(range.count))
        } catch { return false }
        return true
    }

    /// Punches what the fetch has not brought: nobody counts it. No reader may look at absent blocks, and no other fetch
    /// writes them before this one has finished.
    private func giveBack(_ fetch: Fetch, _ file: BlockFile) {
        let rest = file.geometry.bytes(of: state.withLock { _ in fetch.outstanding })
        guard !rest.isEmpty, !engine.isClosed else { return }
        let end = (rest.upperBound + 4095) & ~4095
        do throws(Errno) { try file.data.punchHole(at: rest.lowerBound, length: end - rest.lowerBound) } catch {
            engine.noteFailure(of: file.tier, error, doing: "giving space back")
        }
    }

    private func fill(
        _ sink: FetchSink, _ range: Range<UInt64>, of fetch: Fetch, from source: any BlockSource
    ) async throws {
        state.withLock { _ in fetch.sink = sink }
        // What came whole before a failure is kept.
        defer { sink.flush() }
        try await source.fetch(range, into: sink)
        guard sink.isFull else { throw CacheError.sourceViolation("fewer bytes than the \(range.count) asked for") }
    }

    /// Whether blocks that have arrived, `count` after those that are shown, must be written now: a reader waits for
    /// nothing more of this fetch. If not, a reader who comes later finds them in `fetch.held`.
    func mustShow(_ count: Int, of fetch: Fetch) -> Bool {
        state.withLock { _ in
            fetch.held = fetch.next..<fetch.next + count
            return fetch.waiters.contains { !$0.isDone && fetch.holdsRest(of: $0) }
        }
    }

    /// What to do about blocks that have been shown, without any lock.
    struct Arrival {
        fileprivate let wakeups: [Waiter.Wakeup]
        fileprivate let isNewlyDirty: Bool
    }

    func announce(_ arrival: Arrival) {
        if arrival.isNewlyDirty { engine.flushQueue.add(self) }
        for wakeup in arrival.wakeups { wakeup.resume() }
    }

    /// Whole blocks are where the fetch brings them: shows them to readers, and returns those who have all they asked
    /// for, to be woken by `announce`.
    func arrived(_ fetch: Fetch, first: Int, checksums: [UInt32]) -> Arrival {
        let blocks = first..<first + checksums.count
        return state.withLock { state in
            var isNewlyDirty = false
            if fetch.bypass == nil, let file = fetch.file {
                for (block, checksum) in zip(blocks, checksums) where file.map.markPresent(block, checksum: checksum) {
                    let weight = Tier.weight(of: block..<block + 1, file.geometry)
                    state.presentBlocks += 1
                    state.occupied += weight
                    file.tier.settle(ExtentID(digest: digest, index: file.geometry.extent(of: block)), bytes: weight)
                }
                Self.extend(&state.unsaved, with: blocks)
                isNewlyDirty = !state.isDirty
                state.isDirty = true
            }
            fetch.next = blocks.upperBound
            fetch.held = 0..<0
            var wakeups: [Waiter.Wakeup] = []
            for waiter in fetch.waiters where !waiter.isDone {
                let count = waiter.blocks.clamped(to: blocks).count
                guard count > 0 else { continue }
                waiter.remaining -= count
                if let buffer = fetch.bypass { waiter.add(buffer) }
                if waiter.remaining == 0, let wakeup = waiter.finish(.success(.arrived(waiter.buffers))) {
                    wakeups.append(wakeup)
                }
            }
            return Arrival(wakeups: wakeups, isNewlyDirty: isNewlyDirty)
        }
    }

    /// The entry stays in memory until here, because it has a fetch.
    private func finish(_ fetch: Fetch, _ failure: (any Error)?) {
        let (wakeups, wasHeard) = state.withLock { state -> ([Waiter.Wakeup], Bool) in
            state.fetches.removeAll { $0 === fetch }
            state.generation += 1
            let lost = fetch.waiters.filter { !$0.isDone && $0.blocks.overlaps(fetch.outstanding) }
            fetch.waiters = []
            fetch.task = nil
            fetch.sink = nil
            let result: Result<Waiter.Outcome, any Error> =
                switch failure {
                case .none, .some(is Unwanted): .success(.retry)
                // Cancelled because nobody waited; who joined since looks again.
                case .some where fetch.isCancelled: .success(.retry)
                case .some(let error): .failure(error)
                }
            return (lost.compactMap { $0.finish(result) }, !lost.isEmpty)
        }
        if let failure, !(failure is Unwanted), !fetch.isCancelled {
            engine.counters.failedFetches.add(1, ordering: .relaxed)
            if !wasHeard { engine.counters.droppedPrefetchErrors.add(1, ordering: .relaxed) }
        }
        for wakeup in wakeups { wakeup.resume() }
        engine.noteIdle(self)
    }
}
