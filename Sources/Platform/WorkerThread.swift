/// One owned thread that runs closures in order, now or after a delay; it ends when stopped or released.
package final class WorkerThread: Sendable {
    private let queue = TimedQueue()

    /// `name` is what `ps -L` shows (15 bytes at most).
    package init(name: String) {
        startThread(named: name) { [queue] in
            while let body = queue.blockingWaitForWork() { body() }
        }
    }

    deinit { queue.stop() }

    /// Runs `body` on the thread after `delay`, behind what is due by then. Dropped when the thread has been stopped.
    package func submit(after delay: Duration = .zero, _ body: @escaping @Sendable () -> Void) {
        queue.append(body, due: MonotonicClock.time(after: delay))
    }

    /// Ends the thread after the closure that runs now; waiting closures are dropped. Any thread.
    package func stop() { queue.stop() }
}

private final class TimedQueue: @unchecked Sendable {
    private let monitor = Monitor()
    private var items: [(due: UInt64, body: @Sendable () -> Void)] = []  // by due time, then by arrival
    private var stopped = false

    func append(_ body: @escaping @Sendable () -> Void, due: UInt64) {
        monitor.lock()
        defer { monitor.unlock() }
        guard !stopped else { return }
        let place = items.lastIndex { $0.due <= due }.map { $0 + 1 } ?? 0
        items.insert((due, body), at: place)
        monitor.signal()
    }

    func stop() {
        monitor.lock()
        stopped = true
        let dropped = items
        items = []
        monitor.signal()
        monitor.unlock()
        withExtendedLifetime(dropped) {}  // their captures are released outside the lock
    }

    @inline(never)
    func blockingWaitForWork() -> (@Sendable () -> Void)? {
        monitor.lock()
        defer { monitor.unlock() }
        while !stopped {
            guard let first = items.first else {
                monitor.wait()
                continue
            }
            if first.due <= MonotonicClock.now() { return items.removeFirst().body }
            _ = monitor.wait(until: first.due)
        }
        return nil
    }
}
