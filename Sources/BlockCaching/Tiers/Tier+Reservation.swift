import Platform
import SystemPackage

extension Tier {
    /// Whether `bytes` more fit below the quota and above the floor of free space, of which `free` bytes are there.
    private func fits(_ bytes: UInt64, _ state: State, free: UInt64) -> Bool {
        state.used + state.reserved + bytes <= configuration.quota
            && free >= configuration.floorFreeBytes + state.reserved + bytes
    }

    private func freeBytes() -> UInt64 { (try? directory.space().bytes) ?? 0 }

    /// Reserves room, waiting while the eviction thread makes some; false when the tier cannot have it.
    func reserve(_ bytes: UInt64, evict: @escaping @Sendable () -> Void) async -> Bool {
        let free = freeBytes()
        let (granted, kick) = state.withLock { (state) -> (Bool?, Bool) in
            guard state.health == .ok, bytes <= configuration.quota else { return (false, false) }
            guard state.waiting.isEmpty, fits(bytes, state, free: free) else { return (nil, false) }
            state.reserved += bytes
            return (true, state.used + state.reserved > highMark && !state.isEvicting)
        }
        if kick { startEviction(evict) }
        if let granted { return granted }
        return await withCheckedContinuation { continuation in
            state.withLock { $0.waiting.append((bytes, continuation)) }
            startEviction(evict)
        }
    }

    /// Reserves room that is there, without waiting and without pressing on what the tier holds.
    func reserveNow(_ bytes: UInt64) -> Bool {
        let free = freeBytes()
        return state.withLock { state in
            guard state.health == .ok, state.waiting.isEmpty, fits(bytes, state, free: free),
                state.used + state.reserved + bytes <= highMark
            else { return false }
            state.reserved += bytes
            return true
        }
    }

    /// Gives back what was reserved and did not arrive.
    func unreserve(_ bytes: UInt64, evict: @escaping @Sendable () -> Void) {
        let hasWaiters = state.withLock {
            $0.reserved -= min(bytes, $0.reserved)
            return !$0.waiting.isEmpty
        }
        if hasWaiters { startEviction(evict) }
    }

    /// Has the eviction thread look after the tier, unless it is about to.
    func startEviction(_ evict: @escaping @Sendable () -> Void) {
        let starts = state.withLock { state in
            defer { state.isEvicting = true }
            return !state.isEvicting
        }
        if starts { worker.submit(evict) }
    }

    enum EvictionStep {
        case victim(ExtentID)
        /// Nothing to do, or nothing left that can go.
        case done
    }

    /// The eviction thread's next step: grants what fits, then names a victim while someone waits or the level is too
    /// high.
    func nextEvictionStep(mayDeny: Bool) -> EvictionStep {
        while true {
            let free = freeBytes()
            var answered: [(CheckedContinuation<Bool, Never>, Bool)] = []
            let step = state.withLock { state -> EvictionStep? in
                if let first = state.waiting.first, fits(first.bytes, state, free: free) || state.health != .ok {
                    let granted = state.health == .ok
                    if granted { state.reserved += first.bytes }
                    answered.append((state.waiting.removeFirst().continuation, granted))
                    return nil
                }
                let level = state.used + state.reserved
                if level > highMark { state.isDraining = true }
                if level <= lowMark { state.isDraining = false }
                guard !state.waiting.isEmpty || state.isDraining else {
                    state.isEvicting = false
                    return .done
                }
                if let victim = state.policy.evict() { return .victim(victim) }
                if mayDeny {
                    answered = state.waiting.map { ($0.continuation, false) }
                    state.waiting = []
                }
                state.isDraining = false
                state.isEvicting = false
                return .done
            }
            for (continuation, granted) in answered { continuation.resume(returning: granted) }
            if let step { return step }
        }
    }

    /// Ends an eviction round in which nothing could go: who waits gets no room.
    func abandonEviction() {
        let denied = state.withLock { state in
            defer { state.waiting = [] }
            state.isEvicting = false
            state.isDraining = false
            return state.waiting
        }
        for waiter in denied { waiter.continuation.resume(returning: false) }
    }

    func keep(_ extent: ExtentID, weight: UInt64) { state.withLock { $0.policy.reinstate(extent, weight: weight) } }

    func noteEviction(bytes: UInt64) {
        state.withLock {
            $0.evictions += 1
            $0.evictedBytes += bytes
        }
    }
}
