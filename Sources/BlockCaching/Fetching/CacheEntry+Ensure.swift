import BlockMaps
import Platform

extension CacheEntry {
    /// Ensures, looking again when a fetch was given up or blocks were evicted meanwhile; see `CachedObject.ensure`.
    func ensure(_ range: Range<UInt64>, urgency: FetchUrgency) async throws -> Delivery {
        // Who calls may let go of the handle meanwhile, and an entry that has left memory must touch no file.
        engine.retain(self)
        defer { engine.release(self) }
        guard let geometry else { throw CacheError.noTier }
        let blocks = geometry.blocks(covering: range)
        guard !blocks.isEmpty else { return .cached }
        engine.counters.bytesAsked.add(UInt64(range.count), ordering: .relaxed)
        var isPrepared = false
        // Each turn either ends or waits for someone else's work; a turn may find that work undone, not for ever.
        for attempt in 0..<16 {
            try Task.checkCancellation()
            guard !engine.isClosed else { throw CacheError.closed }
            switch begin(blocks, urgency, waits: true, isPrepared: isPrepared) {
            case .present:
                noteLookup(range, hit: attempt == 0)
                return .cached
            case .prepare:
                await engine.pool.run { [self] in prepare(blocks) }
                isPrepared = true
            case .punching:
                await punchingEnds()
            case .waiting(let waiter, let started, let promoted):
                if attempt == 0 || isPrepared { noteLookup(range, hit: false) }
                for fetch in started { launch(fetch) }
                for ticket in promoted { engine.scheduler.promote(ticket) }
                showHeld(waiter)
                guard case .arrived(let buffers) = try await wait(waiter) else { continue }
                if buffers.isEmpty { return .cached }
                return .readThrough(try await assemble(range, from: buffers))
            }
        }
        return .readThrough(try await assemble(range, from: []))
    }

    /// Starts what is missing and waits for nothing.
    func prefetch(_ range: Range<UInt64>) {
        guard let geometry else { return }
        let blocks = geometry.blocks(covering: range)
        guard !blocks.isEmpty else { return }
        engine.counters.bytesAsked.add(UInt64(range.count), ordering: .relaxed)
        prefetch(blocks, isPrepared: false)
    }

    private func prefetch(_ blocks: Range<Int>, isPrepared: Bool) {
        guard !engine.isClosed else { return }
        switch begin(blocks, .prefetch, waits: false, isPrepared: isPrepared) {
        case .present, .punching: break
        case .prepare:
            engine.retain(self)
            engine.pool.submit { [self] in
                prepare(blocks)
                prefetch(blocks, isPrepared: true)
                engine.release(self)
            }
        case .waiting(_, let started, _):
            for fetch in started { launch(fetch) }
        }
    }

    private func prepare(_ blocks: Range<Int>) {
        if prepareFile() { verifySuspects(in: blocks) }
    }

    private func noteLookup(_ range: Range<UInt64>, hit: Bool) {
        guard
            let tier = state.withLock({ state in
                if hit { state.hits += 1 }
                return state.file?.tier
            })
        else { return }
        tier.noteLookup(hit: hit)
        tier.noteAccess(digest, range)
    }

    /// Has blocks written that had arrived before the reader came; what comes next may take long.
    private func showHeld(_ waiter: Waiter) {
        let sinks = state.withLock { _ in waiter.fetches.filter { $0.holdsRest(of: waiter) }.compactMap(\.sink) }
        for sink in sinks { engine.pool.submit { sink.flush() } }
    }

    private func punchingEnds() async {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                if state.punching == nil { return true }
                state.punchWaiters.append(continuation)
                return false
            }
            if isOver { continuation.resume() }
        }
    }

    // MARK: Planning

    enum Beginning {
        case present
        /// A file must be made or blocks verified first, on a thread that may block.
        case prepare
        case punching
        /// Fetches to launch, and tickets of prefetches for which a reader waits now.
        case waiting(Waiter, started: [Fetch], promoted: [FetchScheduler.Ticket])
    }

    private func begin(_ blocks: Range<Int>, _ urgency: FetchUrgency, waits: Bool, isPrepared: Bool) -> Beginning {
        state.withLock { state in
            guard state.isLoaded else { return .prepare }
            let file = state.file.flatMap { $0.tier.isReadable ? $0 : nil }
            if file == nil {
                if !isPrepared { return .prepare }
                if !waits { return .present }
            }
            if let file {
                if file.map.firstAbsent(in: blocks) == nil { return .present }
                if state.suspects?.first(in: blocks) != nil { return .prepare }
                if state.punching?.overlaps(blocks) == true { return .punching }
            }
            guard let geometry = state.geometry else { return .prepare }
            return plan(blocks, urgency, waits, geometry, file, &state)
        }
    }

    /// Divides the absent blocks among fetches in flight and new ones.
    private func plan(
        _ blocks: Range<Int>, _ urgency: FetchUrgency, _ waits: Bool, _ geometry: BlockGeometry, _ file: BlockFile?,
        _ state: inout State
    ) -> Beginning {
        let waiter = Waiter(blocks: blocks)
        var started: [Fetch] = []
        var promoted: [FetchScheduler.Ticket] = []
        // A fetch must fit its tier beside others.
        let limit = min(UInt64(engine.configuration.maximumFetchSize), (file?.tier.configuration.quota ?? .max) / 8)
        let longest = max(1, Int(limit) / geometry.blockSize)
        var cursor = blocks.lowerBound
        while cursor < blocks.upperBound {
            if let file {
                guard let absent = file.map.firstAbsent(in: cursor..<blocks.upperBound) else { break }
                cursor = absent
            }
            if let fetch = state.fetches.first(where: { $0.outstanding.contains(cursor) }) {
                let end = min(fetch.blocks.upperBound, blocks.upperBound)
                join(waiter, fetch, end - cursor)
                engine.counters.bytesCoalesced.add(UInt64((end - cursor) * geometry.blockSize), ordering: .relaxed)
                if urgency == .demand, fetch.urgency == .prefetch { promoted.append(fetch.ticket) }
                cursor = end
            } else if let fetch = state.fetches.first(where: {
                ($0.bypassStart..<max($0.bypassStart, $0.next)).contains(cursor)
            }),
                let buffer = fetch.bypass
            {
                waiter.add(buffer)
                cursor = fetch.next
            } else {
                var end = min(blocks.upperBound, cursor + longest)
                if let next = state.fetches.lazy.map(\.outstanding.lowerBound).filter({ $0 > cursor }).min() {
                    end = min(end, next)
                }
                if let file, let present = file.map.firstPresent(in: cursor..<end) { end = present }
                let fetch = Fetch(
                    blocks: cursor..<end, file: file, ticket: engine.scheduler.ticket(), urgency: urgency,
                    isDetached: !waits)
                join(waiter, fetch, end - cursor)
                state.fetches.append(fetch)
                state.generation += 1
                started.append(fetch)
                cursor = end
            }
        }
        if waiter.remaining == 0 { _ = waiter.finish(.success(.arrived(waiter.buffers))) }
        if !waits { for fetch in waiter.fetches { fetch.waiters.removeAll { $0 === waiter } } }
        return .waiting(waiter, started: started, promoted: promoted)
    }

    private func join(_ waiter: Waiter, _ fetch: Fetch, _ blocks: Int) {
        waiter.remaining += blocks
        waiter.fetches.append(fetch)
        fetch.waiters.append(waiter)
        // What already went past the cache comes with it.
        if let buffer = fetch.bypass { waiter.add(buffer) }
    }

    // MARK: Waiting

    private func wait(_ waiter: Waiter) async throws -> Waiter.Outcome {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                state.withLock { _ in waiter.attach(continuation) }?.resume()
            }
        } onCancel: {
            leave(waiter)
        }
    }

    /// Ends one wait; fetches for which nobody else waits are cancelled.
    private func leave(_ waiter: Waiter) {
        let (wakeup, tasks) = state.withLock { state in
            let fetches = waiter.fetches
            let wakeup = waiter.finish(.failure(CancellationError()))
            let idle = fetches.filter { !$0.isDetached && !$0.isAwaited && !$0.isCancelled }
            for fetch in idle { fetch.isCancelled = true }
            return (wakeup, idle.compactMap(\.task))
        }
        wakeup?.resume()
        for task in tasks { task.cancel() }
    }
}
