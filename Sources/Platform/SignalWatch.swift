import Glibc
import SystemPackage

/// Takes signals on a thread instead of in a handler, where almost nothing may be called.
package enum SignalWatch {
    /// Blocks `signals` in this thread and in all that are started after, and calls `onSignal` for each on a thread of its
    /// own. Call it on the main thread before anything starts threads.
    package static func start(_ signals: [Int32], onSignal: @escaping @Sendable (Int32) -> Void) {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        let watched = set
        startThread(named: "larder-signals") {
            var set = watched
            while true {
                var number: Int32 = 0
                if sigwait(&set, &number) == 0 { onSignal(number) }
            }
        }
    }

    /// SIGPIPE is for pipelines: a daemon gets EPIPE from the call instead.
    package static func ignoreBrokenPipes() { signal(SIGPIPE, SIG_IGN) }

    /// kill(2). Throws ESRCH when there is no such process, EPERM.
    package static func send(_ signal: Int32, to pid: Int32) throws(Errno) {
        guard kill(pid, signal) == 0 else { throw Errno(rawValue: errno) }
    }
}
