import Coordination
import Platform
import SystemPackage

extension MountedFileSystem {
    /// F_GETLK: the first lock that conflicts, of kind `.unlocked` when there is none.
    package func conflictingLock(
        _ inode: UInt64, _ lock: WireFileLock, answer: @escaping Answer<WireFileLock>
    ) {
        var request = WireGetLock()
        request.inode = inode
        request.lock = lock
        link.request(.getLock(request)) { result in
            answer(result.answer { if case .lockState(let state) = $0 { state.lock } else { nil } })
        }
    }

    /// A number for `setLock` and `cancelLock`.
    package func newLockOperation() -> UInt64 { link.nextOperation() }

    /// F_SETLK, F_SETLKW with `wait`, flock(2), and unlocking. EAGAIN: somebody else has it.
    ///
    /// - Parameter operation: to give to `cancelLock` when the caller no longer waits. A lock that is granted all the same
    ///   must then be given back.
    package func setLock(
        _ inode: UInt64, _ lock: WireFileLock, wait: Bool, operation: UInt64, answer: @escaping Answer<Void>
    ) {
        var request = WireSetLock()
        request.inode = inode
        request.lock = lock
        request.wait = wait
        link.change(.setLock(request), operation: operation) { [locks] result in
            let done = result.done()
            if case .success = done { locks.note(inode, lock) }
            answer(done)
        }
    }

    /// Unlocks what a caller that no longer waited was granted. Any thread.
    package func giveBack(_ lock: WireFileLock, of inode: UInt64) {
        var unlock = lock
        unlock.kind = .unlocked
        link.workers.submit { [self, unlock] in
            setLock(inode, unlock, wait: false, operation: newLockOperation()) { _ in }
        }
    }

    /// Ends the wait of `setLock`. Sends: not on a receive thread.
    package func cancelLock(_ operation: UInt64) {
        link.workers.submit { [link] in
            var request = WireCancelLock()
            request.operation = operation
            link.notify(.cancelLock(request), boundTo: link.generation)
        }
    }

    /// Ends all locks of an owner. Answered also when that fails: the coordinator ends them with the session.
    package func unlockAll(
        _ inode: UInt64, _ owner: UInt64, wholeFile: Bool, done: @escaping @Sendable () -> Void
    ) {
        var lock = WireFileLock()
        lock.kind = .unlocked
        lock.end = .max
        lock.owner = owner
        lock.wholeFile = wholeFile
        setLock(inode, lock, wait: false, operation: newLockOperation()) { _ in done() }
    }

    /// Ends the flock(2) locks that an open file description held, when that goes. Sends.
    package func unlock(_ file: OpenFile, flockOwner: UInt64?) {
        let inode = file.inode.number
        if let flockOwner, locks.holds(inode, flockOwner, wholeFile: true) {
            unlockAll(inode, flockOwner, wholeFile: true) {}
        }
    }

    /// A new coordinator knows no locks.
    func presentLocks() {
        for request in locks.all() {
            link.change(.setLock(request)) { [logger] result in
                guard case .failure(let error) = result else { return }
                logger.error(
                    "a lock of process \(request.lock.pid) on inode \(request.inode) was lost with the coordinator: \(error)"
                )
            }
        }
    }
}
