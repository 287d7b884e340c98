import Platform

/// When things are looked at again; tests bring their own.
package protocol StagingClock: Sendable {
    /// CLOCK_MONOTONIC nanoseconds.
    func now() -> UInt64
    /// Runs `body` once, later, on a thread that it may not block for long.
    func schedule(after delay: Duration, _ body: @escaping @Sendable () -> Void)
}

/// The machine's clock, and a thread.
package final class SystemStagingClock: StagingClock {
    private let thread = WorkerThread(name: "staging-timer")
    package init() {}
    package func now() -> UInt64 { MonotonicClock.now() }
    package func schedule(after delay: Duration, _ body: @escaping @Sendable () -> Void) {
        thread.submit(after: delay, body)
    }
}
