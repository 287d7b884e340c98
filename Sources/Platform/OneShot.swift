/// A value that is set once by one thread and waited for by others.
///
/// The only blocking wait outside worker queues; never wait on a thread of Swift's cooperative pool.
package final class OneShot<Value: Sendable>: @unchecked Sendable {
    private let monitor = Monitor()
    private var value: Value?

    package init() {}

    /// Sets the value and wakes every waiter. Later calls change nothing and return false.
    @discardableResult
    package func set(_ newValue: Value) -> Bool {
        monitor.lock()
        defer { monitor.unlock() }
        guard value == nil else { return false }
        value = newValue
        monitor.broadcast()
        return true
    }

    /// Whether the value is set by now. Any thread.
    package var isSet: Bool {
        monitor.lock()
        defer { monitor.unlock() }
        return value != nil
    }

    /// Waits until the value is set, or for `timeout`; nil means the time ran out.
    @available(*, noasync, message: "blocks its thread; await a continuation instead")
    package func wait(timeout: Duration? = nil) -> Value? {
        blockingWait(until: timeout.map { MonotonicClock.time(after: $0) })
    }

    // A name of its own, so that profilers can tell waiting from working.
    @inline(never)
    private func blockingWait(until deadline: UInt64?) -> Value? {
        monitor.lock()
        defer { monitor.unlock() }
        while value == nil {
            if let deadline {
                guard monitor.wait(until: deadline) else { break }
            } else {
                monitor.wait()
            }
        }
        return value
    }
}
