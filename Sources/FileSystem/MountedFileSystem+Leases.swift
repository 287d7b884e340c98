import Coordination
import Glibc
import Platform
import SystemPackage

extension MountedFileSystem {
    /// Gets a new lease for a grant whose connection is gone, so that it can go on. `done` gets nil, or why not.
    ///
    /// The kernel has cached opens of the inode, so a backing id would not do; any other grant of the version would. A
    /// writer presents the staged file whose descriptor it has, and goes on with that.
    func reopen(_ inode: OpenInode, done: @escaping @Sendable (Errno?) -> Void) {
        let isFirst = inode.reopening.withLock { waiting in
            defer { waiting = (waiting ?? []) + [done] }
            return waiting == nil
        }
        guard isFirst else { return }
        var request = WireOpen()
        request.inode = inode.number
        request.flags = UInt32(bitPattern: inode.access == .writing ? O_RDWR : O_RDONLY)
        request.staged = inode.path.stagedNumber
        requestOpen(request) { [self] result in
            let failure: Errno?
            switch result {
            case .success(let path): failure = accept(path, for: inode)
            case .failure(let error):
                failure = error.errno
                if isLost(inode, error) { lose(inode) }
            }
            let waiting = inode.reopening.withLock { waiting in
                defer { waiting = nil }
                return waiting ?? []
            }
            for done in waiting { done(failure) }
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
        inode.replacePath(old.kind == .staged || inode.writing != nil ? DataPath(path, keeping: old) : path)
        return nil
    }

    /// The coordinator no longer knows what this grant was for.
    private func lose(_ inode: OpenInode) {
        inode.isOrphaned.store(true, ordering: .releasing)
        guard let writing = inode.writing, writing.fail(.ioError) else { return }
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
        for inode in openInodes.all() where inode.writing != nil && inode.path.generation != generation {
            reopen(inode) { _ in }
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
            reopen(inode) { [self] error in
                if let error { return completion(.failure(error)) }
                link.workers.submit { [self] in
                    request(
                        for: inode, body, operation: operation, attempt: attempt + 1, completion: completion)
                }
            }
        }
        guard path.generation == link.generation else { return renew() }
        link.request(body(path.lease), operation: operation, boundTo: path.generation) { [self] result in
            switch result {
            case .success(let reply): completion(.success(reply))
            case .failure(.disconnected): link.workers.submit(renew)
            case .failure(let error): completion(.failure(error.errno))
            }
        }
    }
}
