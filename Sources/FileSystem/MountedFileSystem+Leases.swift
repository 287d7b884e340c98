import Coordination
import Glibc
import Platform
import SystemPackage

extension MountedFileSystem {
    /// Gets a new lease for a grant whose connection is gone, so that it can go on. `done` gets nil, or why not.
    /// - Parameter lost: the path whose lease is gone: nothing is done when another has replaced it meanwhile.
    ///
    /// The kernel has cached opens of the inode, so a backing id would not do; any other grant of the version would. A
    /// writer presents the staged file whose descriptor it has, and goes on with that.
    func reopen(_ inode: OpenInode, insteadOf lost: DataPath, done: @escaping @Sendable (Errno?) -> Void) {
        let isFirst = inode.reopening.withLock { waiting in
            defer { waiting = (waiting ?? []) + [done] }
            return waiting == nil
        }
        guard isFirst else { return }
        let finish: @Sendable (Errno?) -> Void = { failure in
            let waiting = inode.reopening.withLock { waiting in
                defer { waiting = nil }
                return waiting ?? []
            }
            for done in waiting { done(failure) }
        }
        let path = inode.path
        guard path === lost else { return finish(nil) }
        var request = WireOpen()
        request.inode = inode.number
        request.flags = UInt32(bitPattern: inode.access == .writing ? O_RDWR : O_RDONLY)
        request.staged = path.stagedNumber
        // Sent before there is a connection, it waits for one: whether the session goes on, only the coordinator can tell.
        if path.isRestored { (request.lease, request.session) = (path.lease, path.session) }
        requestOpen(request) { [self] result in
            let failure: Errno?
            switch result {
            case .success(let path): failure = accept(path, for: inode)
            case .failure(let error):
                failure = error.errno
                if isLost(inode, error) { lose(inode) }
            }
            finish(failure)
        }
    }

    /// Whether the coordinator has said that it does not know what the grant was for; anything else may pass.
    private func isLost(_ inode: OpenInode, _ error: CoordinationError) -> Bool {
        switch error.errno {
        case .staleNFSFileHandle, .noSuchFileOrDirectory, .badFileDescriptor: true
        // Whoever writes on into a file that may be nobody's must hear of it.
        case .ioError: inode.writing != nil && error != CoordinatorLink.unavailable
        default: false
        }
    }

    private func accept(_ path: DataPath, for inode: OpenInode) -> Errno? {
        let old = inode.path
        let isSame: Bool =
            switch old.kind {
            case _ where old.isRestored && path.lease == old.lease && path.kind == old.kind: true
            case .staged: path.kind == .staged && path.stagedNumber == old.stagedNumber
            case .passthrough where inode.writing != nil: path.kind == .staged || path.kind == .source
            default: path.kind != .passthrough && (path.size == old.size || path.isLive)
            }
        guard isSame else {
            link.workers.submit { [self] in
                link.notify(.release(WireRelease(path.lease)), boundTo: path.generation)
            }
            lose(inode)
            return inode.writing == nil ? .staleNFSFileHandle : .ioError
        }
        let keepsOld = old.kind == .staged || inode.writing != nil || path.kind == .passthrough
        let current = keepsOld ? DataPath(path, keeping: old) : path
        if old.isRestored { inode.writing?.resume(current) }
        inode.replacePath(current)
        return nil
    }

    /// The coordinator no longer knows what this grant was for.
    private func lose(_ inode: OpenInode) {
        inode.isOrphaned.store(true, ordering: .releasing)
        let isFirst = inode.writing?.fail(.ioError) ?? false
        inode.noteChange()
        guard isFirst else { return }
        logger.error(
            """
            the coordinator no longer knows the file with inode \(inode.number) that is being written: writes to it fail, \
            and what was written since its last fsync or close may be lost
            """)
    }

    /// The coordinator has been replaced: its successor is shown what is being written, before it takes that for left
    /// behind. Sends.
    func presentWriters() {
        let generation = link.generation
        for inode in openInodes.all() where inode.writing != nil {
            let path = inode.path
            if path.generation != generation { reopen(inode, insteadOf: path) { _ in } }
        }
    }

    /// Calls `body` when the descriptors of an open file are here, which a predecessor of this process may have had, or with why
    /// they do not come. Any thread; `body` as well.
    func whenOpen(_ inode: OpenInode, _ body: @escaping @Sendable (Errno?) -> Void) {
        let path = inode.path
        guard path.isRestored else { return body(nil) }
        link.workers.submit { [self] in
            // `reopen` is done on a receive thread, which must neither send nor wait for a disk.
            reopen(inode, insteadOf: path) { error in Self.fileWorkers.submit { body(error) } }
        }
    }

    /// A lease may be lost and renewed while a request that needs it is sent; after so often, the request fails.
    private static let leaseAttempts = 5

    /// Sends a request that names the lease of `inode`, under a new lease when that is gone. Sends: not on a receive
    /// thread. The completion runs on one.
    func request(
        for inode: OpenInode, _ body: @escaping @Sendable (_ lease: UInt64) -> WireEnvelope.OneOf_Body,
        operation: UInt64 = 0, attempt: Int = 1,
        completion: @escaping @Sendable (Result<CoordinatorLink.Reply, Errno>) -> Void
    ) {
        let path = inode.path
        let renew: @Sendable () -> Void = { [self] in
            guard attempt < Self.leaseAttempts else { return completion(.failure(.ioError)) }
            reopen(inode, insteadOf: path) { [self] error in
                if let error { return completion(.failure(error)) }
                link.workers.submit { [self] in
                    request(
                        for: inode, body, operation: operation, attempt: attempt + 1, completion: completion)
                }
            }
        }
        guard path.generation == link.generation, !path.isRestored else { return renew() }
        link.request(body(path.lease), operation: operation, boundTo: path.generation) { [self] result in
            switch result {
            case .success(let reply): completion(.success(reply))
            case .failure(.disconnected): link.workers.submit(renew)
            case .failure(let error): completion(.failure(error.errno))
            }
        }
    }
}
