import Platform

/// How much is sent at once, over all stores of the node. First come, first served, but who has somebody waiting comes
/// before who has not.
final class UploadBudget: Sendable {
    private struct Waiter {
        let cost: UInt64
        let continuation: CheckedContinuation<Void, Never>
    }

    private struct State {
        var free: UInt64
        var urgent: [Waiter] = []
        var idle: [Waiter] = []
    }

    // A small file costs a connection as well.
    private static let request: UInt64 = 256 << 10
    private let unit: UInt64
    private let state: Lock<State>

    /// Room for `uploads` of `unit` bytes or more, or for more smaller ones.
    init(uploads: Int, unit: UInt64) {
        self.unit = unit
        state = Lock(State(free: UInt64(max(1, uploads)) * (unit + Self.request)))
    }

    private func cost(_ bytes: UInt64) -> UInt64 { min(bytes, unit) + Self.request }

    /// Waits for room to send `bytes`; balanced by `release`.
    func acquire(_ bytes: UInt64, isUrgent: Bool) async {
        let cost = cost(bytes)
        await withCheckedContinuation { continuation in
            let isGranted = state.withLock { state in
                if state.free >= cost, state.urgent.isEmpty, isUrgent || state.idle.isEmpty {
                    state.free -= cost
                    return true
                }
                let waiter = Waiter(cost: cost, continuation: continuation)
                if isUrgent { state.urgent.append(waiter) } else { state.idle.append(waiter) }
                return false
            }
            if isGranted { continuation.resume() }
        }
    }

    func release(_ bytes: UInt64) {
        let cost = cost(bytes)
        let granted = state.withLock { state in
            state.free += cost
            var granted: [Waiter] = []
            while let next = state.urgent.first ?? state.idle.first, next.cost <= state.free {
                state.free -= next.cost
                granted.append(next)
                if state.urgent.isEmpty { state.idle.removeFirst() } else { state.urgent.removeFirst() }
            }
            return granted
        }
        for waiter in granted { waiter.continuation.resume() }
    }
}
