import Platform

/// Decides when a coordinator ends: when told to, or when its mounts have gone.
final class Departure: Sendable {
    private struct State {
        var mounts = 0
        /// Grows with each change, so that a timer knows whether it is still the right one.
        var change = 0
        var grace: Duration?
        var hasLeft = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Lock(State())

    /// From now on, the coordinator leaves when it has had no mount for `grace`, or none at all for `patience`.
    func watch(patience: Duration, grace: Duration) {
        state.withLock { $0.grace = grace }
        leaveUnlessMounted(after: patience)
    }

    func mountCount(_ count: Int) {
        let grace = state.withLock { state -> Duration? in
            let hadMounts = state.mounts > 0
            state.mounts = count
            guard hadMounts || count > 0 else { return nil }
            state.change += 1
            return count == 0 ? state.grace : nil
        }
        if let grace { leaveUnlessMounted(after: grace) }
    }

    func leave() {
        let waiters = state.withLock { state in
            state.hasLeft = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Returns once the coordinator should end.
    func wait() async {
        await withCheckedContinuation { continuation in
            let hasLeft = state.withLock { state in
                if !state.hasLeft { state.waiters.append(continuation) }
                return state.hasLeft
            }
            if hasLeft { continuation.resume() }
        }
    }

    private func leaveUnlessMounted(after delay: Duration) {
        let change = state.withLock { $0.change }
        Task { [self] in
            try? await Task.sleep(for: delay)
            let isQuiet = state.withLock { $0.mounts == 0 && $0.change == change }
            if isQuiet { leave() }
        }
    }
}
