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
        try await source.fetch(range, into: sink)
        guard sink.isFull else { throw CacheError.sourceViolation("fewer bytes than the \(range.count) asked for") }
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
        let sink = FetchSink(
            entry: self, fetch: fetch, blocks: fetch.blocks, geometry: file.geometry, target: file.data, base: 0)
        do {
            try await source.fetch(range, into: sink)
        } catch {
            guard let failure = sink.failure else { throw error }
            engine.noteFailure(of: file.tier, failure, doing: "writing a cache file")
            return false
        }
        guard sink.isFull else { throw CacheError.sourceViolation("fewer bytes than the \(range.count) asked for") }
        return true
    }

    /// Whole blocks are where the fetch brings them: shows them to readers and wakes those who have all they asked for.
    func arrived(_ fetch: Fetch, first: Int, checksums: [UInt32]) {
        let blocks = first..<first + checksums.count
        let (wakeups, isNewlyDirty) = state.withLock { state -> ([Waiter.Wakeup], Bool) in
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
            return (wakeups, isNewlyDirty)
        }
        if isNewlyDirty { engine.flushQueue.add(self) }
        for wakeup in wakeups { wakeup.resume() }
    }

    /// The entry stays in memory until here, because it has a fetch.
    private func finish(_ fetch: Fetch, _ failure: (any Error)?) {
        let (wakeups, wasHeard) = state.withLock { state -> ([Waiter.Wakeup], Bool) in
            state.fetches.removeAll { $0 === fetch }
            state.generation += 1
            let lost = fetch.waiters.filter { !$0.isDone && $0.blocks.overlaps(fetch.outstanding) }
            fetch.waiters = []
            fetch.task = nil
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
