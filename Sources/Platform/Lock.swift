import Glibc

/// The project's one lock: state that can only be reached while the lock is held.
///
/// It wraps a pthread mutex because `Synchronization.Mutex` of Swift 6.3 hands over through the kernel without
/// spinning and is slow under contention (swiftlang/swift#88440). The state lives behind a pointer, which avoids the
/// runtime exclusivity check of a class property. Never call out (reply, store, closure parameter, logger) under it.
package final class Lock<State>: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let state: UnsafeMutablePointer<State>

    package init(_ initial: sending State) {
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        state = .allocate(capacity: 1)
        state.initialize(to: initial)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// Runs `body` with exclusive access to the state. Any thread; not re-entrant.
    @inline(__always)
    package func withLock<Result, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&state.pointee)
    }
}
