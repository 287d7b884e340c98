import Coordination
import Glibc
import Platform
import SystemPackage

extension FakeCoordinator {
    func entry(_ inode: UInt64) throws -> WireEntry {
        guard let attributes = script.withLock({ $0.attributes(inode) }) else { throw Errno.staleNFSFileHandle }
        var entry = WireEntry()
        entry.attributes = attributes
        return entry
    }

    /// Adds a name that must not exist.
    func addNew(_ name: ByteString, _ content: FakeTree.Content, in parent: UInt64) throws -> UInt64 {
        try script.withLock { script throws in
            guard script.tree.children[parent]?[name] == nil else { throw Errno.fileExists }
            return script.tree.add(name, content, in: parent)
        }
    }

    func addNew(_ name: ByteString, in parent: UInt64) throws -> (inode: UInt64, file: FakeFile) {
        let number = script.withLock { script in
            script.writing.nextStaged += 1
            return script.writing.nextStaged
        }
        let grant: FakeGrant =
            switch script.withLock({ $0.writing.grant }) {
            case .staged, .stagedBacking: .whole
            case .source: .source
            case .passthrough: .passthrough
            }
        let file = try FakeFile([], grant, blockSize: 4096, path: "\(directory)/new-\(number)")
        return (try addNew(name, .file(file), in: parent), file)
    }

    func remove(_ name: ByteString, in parent: UInt64, directory: Bool) throws {
        try script.withLock { script throws in
            guard let inode = script.tree.children[parent]?[name] else { throw Errno.noSuchFileOrDirectory }
            if directory, script.tree.children[inode]?.isEmpty == false { throw Errno.directoryNotEmpty }
            script.tree.remove(name, in: parent)
        }
    }

    func rename(_ request: WireRename) throws {
        try script.withLock { script throws in
            let (name, newName) = (ByteString(request.name), ByteString(request.newName))
            guard let inode = script.tree.children[request.parent]?[name] else { throw Errno.noSuchFileOrDirectory }
            let old = script.tree.children[request.newParent]?[newName]
            if request.flags & 1 != 0, old != nil { throw Errno.fileExists }
            if request.flags & 2 != 0 {
                guard let old else { throw Errno.noSuchFileOrDirectory }
                script.tree.children[request.parent]?[name] = old
            } else {
                if old != nil { script.tree.remove(newName, in: request.newParent) }
                script.tree.children[request.parent]?[name] = nil
            }
            script.tree.children[request.newParent]?[newName] = inode
        }
    }

    func set(_ request: WireSetAttributes) throws {
        try script.withLock { script throws in
            guard let attributes = script.attributes(request.inode) else { throw Errno.staleNFSFileHandle }
            if request.hasMode { script.writing.modes[request.inode] = request.mode }
            if request.hasUid || request.hasGid {
                script.writing.owners[request.inode] = (
                    request.hasUid ? request.uid : attributes.uid, request.hasGid ? request.gid : attributes.gid
                )
            }
            if request.hasModified {
                script.writing.modified[request.inode] =
                    request.modified.now
                    ? FileTime(seconds: 1_800_000_000)
                    : FileTime(seconds: request.modified.seconds, nanoseconds: request.modified.nanoseconds)
            }
            if request.hasSize {
                if let staged = script.writing.staged[request.inode] {
                    try staged.file.resize(to: request.size)
                } else if case .file(let file) = script.tree.nodes[request.inode]?.content {
                    var bytes = Array(file.bytes.prefix(Int(request.size)))
                    bytes += [UInt8](repeating: 0, count: Int(request.size) - bytes.count)
                    script.writing.nextStaged += 1
                    let path = "\(directory)/cut-\(script.writing.nextStaged)"
                    script.tree.nodes[request.inode]?.content = .file(
                        try FakeFile(bytes, .whole, blockSize: 4096, path: path))
                }
            }
        }
    }
}

extension FakeSession {
    /// Locks, whose waiters are asked again when one goes.
    func answerLock(
        _ body: WireEnvelope.OneOf_Body, _ id: UInt64, _ operation: UInt64, _ owner: FakeCoordinator
    ) throws {
        let me = ObjectIdentifier(self)
        switch body {
        case .getLock(let request):
            var state = WireLockState()
            let found = owner.script.withLock { script in
                script.writing.locks.first { $0.conflicts(with: request.lock, of: me, on: request.inode) }
            }
            if let found { state.lock = found.lock }
            session.reply(to: id, .lockState(state))
        case .setLock(let request):
            let waiter = FakeWriting.LockWaiter(request: request, operation: operation, session: me) {
                [session] error in
                if let error { session.fail(id, error, "\(error)") } else { session.reply(to: id, .done(.init())) }
            }
            var answers = owner.script.withLock { $0.writing.set(waiter) }
            answers.forEach { $0() }
            answers = owner.script.withLock { $0.writing.retryWaiters() }
            answers.forEach { $0() }
        case .cancelLock(let request):
            let waiter = owner.script.withLock { script -> FakeWriting.LockWaiter? in
                guard
                    let index = script.writing.lockWaiters.firstIndex(where: {
                        $0.session == me && $0.operation == request.operation
                    })
                else { return nil }
                return script.writing.lockWaiters.remove(at: index)
            }
            owner.log.withLock { $0.cancelledLocks += 1 }
            waiter?.answer(.interrupted)
        default: throw Errno.notSupported
        }
    }
}

extension FakeWriting {
    struct LockWaiter: Sendable {
        let request: WireSetLock
        let operation: UInt64
        let session: ObjectIdentifier
        let answer: @Sendable (Errno?) -> Void
    }

    /// Sets or unlocks a range of one owner, as a whole; partial unlocks are beyond this fake.
    mutating func set(_ waiter: LockWaiter) -> [@Sendable () -> Void] {
        let (lock, inode) = (waiter.request.lock, waiter.request.inode)
        if locks.contains(where: { $0.conflicts(with: lock, of: waiter.session, on: inode) }), lock.kind != .unlocked {
            guard waiter.request.wait else { return [{ waiter.answer(.resourceTemporarilyUnavailable) }] }
            lockWaiters.append(waiter)
            return []
        }
        locks.removeAll {
            $0.session == waiter.session && $0.inode == inode && $0.lock.owner == lock.owner
                && $0.lock.wholeFile == lock.wholeFile && $0.lock.start >= lock.start && $0.lock.end <= lock.end
        }
        if lock.kind != .unlocked { locks.append(FakeLock(session: waiter.session, inode: inode, lock: lock)) }
        return [{ waiter.answer(nil) }]
    }

    mutating func retryWaiters() -> [@Sendable () -> Void] {
        let waiting = lockWaiters
        lockWaiters = []
        return waiting.flatMap { set($0) }
    }
}
