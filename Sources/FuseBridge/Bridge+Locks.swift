import CFuse
import Coordination
import FileSystem
import Glibc
import SystemPackage

extension Bridge {
    func conflictingLock(_ raw: fuse_req_t, _ node: fuse_ino_t, _ info: UnsafePointer<fuse_file_info>, _ lock: flock) {
        let wanted = WireFileLock(lock, owner: info.pointee.lock_owner)
        answer(raw) {
            fileSystem.conflictingLock(inode(of: node), wanted, answer: $0)
        } with: { request, found in
            request.reply(lock: flock(found))
        }
    }

    /// fcntl(2).
    func setLock(
        _ raw: fuse_req_t, _ node: fuse_ino_t, _ info: UnsafePointer<fuse_file_info>, _ lock: flock, wait: Bool
    ) {
        let owner = info.pointee.lock_owner
        setLock(raw, node, info, WireFileLock(lock, owner: owner), wait: wait)
    }

    /// flock(2).
    func setFileLock(_ raw: fuse_req_t, _ node: fuse_ino_t, _ info: UnsafePointer<fuse_file_info>, _ operation: Int32) {
        var lock = WireFileLock()
        switch operation & ~LOCK_NB {
        case LOCK_SH: lock.kind = .shared
        case LOCK_EX: lock.kind = .exclusive
        default: lock.kind = .unlocked
        }
        lock.end = .max
        lock.owner = info.pointee.lock_owner
        lock.pid = fuse_req_ctx(raw).pointee.pid
        lock.wholeFile = true
        setLock(raw, node, info, lock, wait: operation & LOCK_NB == 0)
    }

    private func setLock(
        _ raw: fuse_req_t, _ node: fuse_ino_t, _ info: UnsafePointer<fuse_file_info>, _ lock: WireFileLock, wait: Bool
    ) {
        let inode = inode(of: node)
        // The kernel keeps the locks of directories by itself.
        let file = self.file(info)
        let wait = wait && lock.kind != .unlocked
        let operation = fileSystem.newLockOperation()
        // Without waiting the answer is near; with it, any signal may be how the program limits the wait.
        let cancel: @Sendable () -> Void = { [fileSystem] in if wait { fileSystem.cancelLock(operation) } }
        guard
            let reply = ParkedRequest.park(FuseRequest(raw), endsAtAnySignal: wait, onInterrupt: cancel)
        else { return }
        fileSystem.setLock(
            inode, lock, file: file?.takeUnretainedValue(), wait: wait, operation: operation
        ) { [fileSystem] result in
            guard let request = reply.claim() else {
                // Granted to somebody who had stopped to wait.
                if case .success = result { fileSystem.giveBack(lock, of: inode) }
                return
            }
            switch result {
            case .success: request.succeed()
            case .failure(let error): request.fail(error)
            }
        }
    }
}

extension WireFileLock {
    fileprivate init(_ lock: flock, owner: UInt64) {
        self.init()
        switch Int32(lock.l_type) {
        case F_RDLCK: kind = .shared
        case F_WRLCK: kind = .exclusive
        default: kind = .unlocked
        }
        start = UInt64(max(0, lock.l_start))
        // Length 0 is to the end of the file.
        end = lock.l_len <= 0 ? .max : start + UInt64(lock.l_len) - 1
        self.owner = owner
        pid = lock.l_pid
    }
}

extension flock {
    fileprivate init(_ lock: WireFileLock) {
        self.init()
        switch lock.kind {
        case .shared: l_type = Int16(F_RDLCK)
        case .exclusive: l_type = Int16(F_WRLCK)
        default: l_type = Int16(F_UNLCK)
        }
        l_whence = Int16(SEEK_SET)
        l_start = off_t(clamping: lock.start)
        l_len = lock.end >= UInt64(Int64.max) ? 0 : off_t(clamping: lock.end &- lock.start &+ 1)
        l_pid = lock.pid
    }
}
