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
    /// - Parameters:
    ///   - file: through which it is asked for, and with which it ends.
    ///   - operation: to give to `cancelLock` when the caller no longer waits. A lock that is granted all the same must then be
    ///     given back.
    package func setLock(
        _ inode: UInt64, _ lock: WireFileLock, file: OpenFile? = nil, wait: Bool, operation: UInt64,
        answer: @escaping Answer<Void>
    ) {
        // Before it is granted: whoever closes the file knows of it.
        if lock.kind != .unlocked { file?.noteOwner(lock.owner, wholeFile: lock.wholeFile) }
        var request = WireSetLock()
        request.inode = inode
        request.lock = lock
        request.wait = wait
        let handle = file?.handle.load(ordering: .relaxed) ?? 0
        link.change(.setLock(request), operation: operation) { [locks] result in
            let done = result.done()
            if case .success = done { locks.note(inode, lock, through: handle) }
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

    /// Ends the locks that belong to an open file description, those of flock(2) and F_OFD_SETLK, when that goes: those of
    /// processes have ended with their own closes. Sends.
    package func unlock(_ file: OpenFile) {
        let inode = file.inode.number
        for owner in file.lockOwners where locks.holds(inode, owner.number, wholeFile: owner.wholeFile) {
            unlockAll(inode, owner.number, wholeFile: owner.wholeFile) {}
        }
    }

    /// Tells the coordinator that the flock(2) lock of an open file may be about to end: one of its descriptors is being
    /// closed. FUSE tells of the last close only when close(2) has returned, and without an answer.
    func announceClose(_ file: OpenFile, done: @escaping @Sendable () -> Void) {
        let inode = file.inode.number
        let holder = file.lockOwners.first { $0.wholeFile && locks.holds(inode, $0.number, wholeFile: true) }
        guard let holder else { return done() }
        var request = WireSetLock()
        request.inode = inode
        request.lock.kind = .unlocked
        request.lock.end = .max
        request.lock.owner = holder.number
        request.lock.wholeFile = true
        request.closing = true
        link.workers.submit { [link, request] in link.request(.setLock(request)) { _ in done() } }
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
