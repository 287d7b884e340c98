import Glibc

/// The project's one lock: state that can only be reached while the lock is held.
///
/// It wraps a pthread mutex because `Synchronization.Mutex` of Swift 6.3 hands over through the kernel without
/// spinning and is slow under contention (swiftlang/swift#88440). The state lives behind a pointer, which avoids the
/// runtime exclusivity check of a class property. Never call out (reply, store, closure parameter, logger) under it.
///
/// Public, because Swift 6.3 inlines and specialises across modules what is public only: generic code that runs unspecialised
/// asks for its types at each call.
public final class Lock<State>: @unchecked Sendable {
    @usableFromInline let mutex: UnsafeMutablePointer<pthread_mutex_t>
    @usableFromInline let state: UnsafeMutablePointer<State>

    /// Not locked.
    @inlinable public init(_ initial: sending State) {
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        state = .allocate(capacity: 1)
        state.initialize(to: initial)
    }

    @inlinable deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// Runs `body` with exclusive access to the state. Any thread; not re-entrant.
    @inlinable @inline(__always)
    public func withLock<Result, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&state.pointee)
    }
}
