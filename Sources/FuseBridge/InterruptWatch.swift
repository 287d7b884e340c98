import Platform

/// Looks again at parked requests whose interruption was ignored: the kernel tells of a request's first signal only,
/// and a later one may be SIGKILL.
final class InterruptWatch: Sendable {
    static let shared = InterruptWatch()

    private struct State {
        var watched: [ParkedRequest] = []
        var isRunning = false
    }
    private let state = Lock(State())
    /// A person who presses Ctrl-C does not notice less.
    private static let interval = 200

    var watchedCount: Int { state.withLock { $0.watched.count } }

    func add(_ request: ParkedRequest) {
        let mustStart = state.withLock { state in
            state.watched.append(request)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if mustStart { startThread(named: "larder-interrupt") { [self] in run() } }
    }

    private func run() {
        while true {
            pause(milliseconds: Self.interval)
            let watched = state.withLock { state in
                defer { state.watched = [] }
                return state.watched
            }
            let rest = watched.filter { $0.endIfInterrupted() }
            let isDone = state.withLock { state in
                state.watched += rest
                if state.watched.isEmpty { state.isRunning = false }
                return state.watched.isEmpty
            }
            if isDone { return }
        }
    }
}
