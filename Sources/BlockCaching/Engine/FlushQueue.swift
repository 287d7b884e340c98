import Platform

/// The entries with something to save, and those that may leave memory.
final class FlushQueue: Sendable {
    private struct State {
        var dirty: [CacheEntry] = []
        var idle: [CacheEntry] = []
        var isScheduled = false
        var isClosed = false
    }

    private let state = Lock(State())
    private let worker: WorkerThread
    private let delay: Duration
    private let flush: @Sendable () -> Void

    /// `flush` is called on `worker`, `delay` after the first addition.
    init(worker: WorkerThread, delay: Duration, flush: @escaping @Sendable () -> Void) {
        self.worker = worker
        self.delay = delay
        self.flush = flush
    }

    func add(_ entry: CacheEntry) { append { $0.dirty.append(entry) } }
    func addIdle(_ entry: CacheEntry) { append { $0.idle.append(entry) } }

    private func append(_ change: (inout State) -> Void) {
        let starts = state.withLock { state in
            guard !state.isClosed else { return false }
            change(&state)
            defer { state.isScheduled = true }
            return !state.isScheduled
        }
        if starts { worker.submit(after: delay, flush) }
    }

    func take() -> (dirty: [CacheEntry], idle: [CacheEntry]) {
        state.withLock { state in
            defer {
                state.dirty = []
                state.idle = []
                state.isScheduled = false
            }
            return (state.dirty, state.idle)
        }
    }

    /// Takes nothing more and lets go of all entries.
    func close() {
        let entries = state.withLock { state in
            state.isClosed = true
            defer {
                state.dirty = []
                state.idle = []
            }
            return state.dirty + state.idle
        }
        withExtendedLifetime(entries) {}
    }
}
