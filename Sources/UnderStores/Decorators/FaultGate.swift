import Platform

/// Holds calls of a `FaultStore` until a test lets them go on, and tells the test when they have arrived.
package final class FaultGate: Sendable {
    private struct State {
        var isOpen = false
        var arrivals = 0
        var nextToken = 0
        var held: [Int: CheckedContinuation<Void, Never>] = [:]
        /// Tests that wait for a number of arrivals.
        var watchers: [(arrivals: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let state = Lock(State())

    package init() {}

    /// Calls that have reached the gate so far, whether or not they were let through.
    package var arrivals: Int { state.withLock { $0.arrivals } }

    /// Lets every held and every later call go on.
    package func open() {
        let held = state.withLock { state in
            state.isOpen = true
            defer { state.held.removeAll() }
            return Array(state.held.values)
        }
        for continuation in held { continuation.resume() }
    }

    /// Returns once `count` calls have reached the gate.
    package func waitForArrivals(_ count: Int) async {
        await withCheckedContinuation { continuation in
            let isReached = state.withLock { state in
                if state.arrivals >= count { return true }
                state.watchers.append((count, continuation))
                return false
            }
            if isReached { continuation.resume() }
        }
    }

    /// Waits until the gate is open; throws `.cancelled` when the task is cancelled first.
    func pass() async throws(StoreError) {
        let (token, watchers) = state.withLock { state in
            state.arrivals += 1
            state.nextToken += 1
            let arrivals = state.arrivals
            let reached = state.watchers.filter { $0.arrivals <= arrivals }.map(\.continuation)
            state.watchers.removeAll { $0.arrivals <= arrivals }
            return (state.nextToken, reached)
        }
        for watcher in watchers { watcher.resume() }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let goesOn = state.withLock { state in
                    if state.isOpen || Task.isCancelled { return true }
                    state.held[token] = continuation
                    return false
                }
                if goesOn { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.held.removeValue(forKey: token) }?.resume()
        }
        if Task.isCancelled { throw .cancelled }
    }
}
