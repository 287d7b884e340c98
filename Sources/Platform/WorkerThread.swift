import Glibc

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
        let (seconds, attoseconds) = delay.components
        queue.append(
            body, due: MonotonicClock.now() + UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000))
    }

    /// Ends the thread after the closure that runs now; waiting closures are dropped. Any thread.
    package func stop() { queue.stop() }
}

private final class TimedQueue: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var items: [(due: UInt64, body: @Sendable () -> Void)] = []  // by due time, then by arrival
    private var stopped = false

    init() {
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        condition.initialize(to: pthread_cond_t())
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        condition.deallocate()
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    func append(_ body: @escaping @Sendable () -> Void, due: UInt64) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        guard !stopped else { return }
        let place = items.lastIndex { $0.due <= due }.map { $0 + 1 } ?? 0
        items.insert((due, body), at: place)
        pthread_cond_signal(condition)
    }

    func stop() {
        pthread_mutex_lock(mutex)
        stopped = true
        let dropped = items
        items = []
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
        withExtendedLifetime(dropped) {}  // their captures are released outside the lock
    }

    @inline(never)
    func blockingWaitForWork() -> (@Sendable () -> Void)? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while !stopped {
            guard let first = items.first else {
                pthread_cond_wait(condition, mutex)
                continue
            }
            if first.due <= MonotonicClock.now() { return items.removeFirst().body }
            var deadline = timespec(
                tv_sec: Int(first.due / 1_000_000_000), tv_nsec: Int(first.due % 1_000_000_000))
            pthread_cond_timedwait(condition, mutex, &deadline)
        }
        return nil
    }
}
