import Platform

/// Bytes of memory that may be in flight past the cache; the longest waiter is served first.
final class MemoryBudget: Sendable {
    private struct State {
        var used = 0
        var waiting: [(bytes: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let limit: Int
    private let state: Lock<State>

    init(limit: Int) {
        self.limit = limit
        state = Lock(State())
    }

    /// Waits for room. A request larger than the budget passes when nothing else is out; with `evenOverLimit` at once:
    /// whoever already holds some of what it needs must not wait for others who may do the same.
    func acquire(_ bytes: Int, evenOverLimit: Bool) async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let granted = state.withLock { state in
                if evenOverLimit || (state.waiting.isEmpty && (state.used == 0 || state.used + bytes <= limit)) {
                    state.used += bytes
                    return true
                }
                state.waiting.append((bytes, continuation))
                return false
            }
            if granted { continuation.resume() }
        }
    }

    func release(_ bytes: Int) {
        let ready = state.withLock { state in
            state.used -= bytes
            var ready: [CheckedContinuation<Void, Never>] = []
            while let first = state.waiting.first, state.used == 0 || state.used + first.bytes <= limit {
                state.used += first.bytes
                ready.append(state.waiting.removeFirst().continuation)
            }
            return ready
        }
        for continuation in ready { continuation.resume() }
    }
}
