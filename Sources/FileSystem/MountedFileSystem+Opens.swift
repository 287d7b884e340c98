import Coordination
import Platform
import SystemPackage

extension MountedFileSystem {
    /// Opens an inode for reading. The file must be given back with `close`, even when nobody wants it any more.
    /// ESTALE: the inode has been superseded; look its name up again.
    package func open(_ inode: UInt64, answer: @escaping Answer<OpenFile>) {
        let step = openInodes.begin(inode) { result in answer(result.map { OpenFile($0, shared: false) }) }
        switch step {
        case .wait: break
        case .share(let open): answer(.success(OpenFile(open, shared: true)))
        case .ask:
            requestOpen(inode, passthrough: usesPassthrough) { [self] result in
                let opened = result.map { OpenInode(inode, $0) }
                for waiter in openInodes.finish(inode, opened) { waiter(opened) }
            }
        }
    }

    /// Gives an open back. The last of an inode gives its lease back. Sends: not on a receive thread.
    package func close(_ file: OpenFile) {
        let inode = file.inode
        guard openInodes.end(inode) else { return }
        let path = inode.path
        if path.kind == .mapped { reportLastAccess(inode) }
        link.notify(.release(WireRelease(path.lease)), boundTo: path.generation)
    }

    /// The same from any thread.
    package func closeLater(_ file: OpenFile) { link.workers.submit { [self] in close(file) } }

    private func requestOpen(_ inode: UInt64, passthrough: Bool, answer: @escaping Answer<DataPath>) {
        var request = WireOpen()
        request.inode = inode
        request.passthrough = passthrough
        link.request(.open(request)) { [self] result in
            switch result {
            case .failure(let error): answer(.failure(error.errno))
            case .success(let reply):
                guard case .opened(let opened) = reply.body else { return answer(.failure(.protocolError)) }
                do throws(Errno) {
                    answer(.success(try DataPath(opened, reply.descriptors, generation: reply.generation)))
                } catch {
                    logger.error("the coordinator's grant for inode \(inode) cannot be used: \(error)")
                    link.workers.submit { [self] in
                        link.notify(.release(WireRelease(opened.lease)), boundTo: reply.generation)
                    }
                    answer(.failure(error))
                }
            }
        }
    }

    /// Gets a new lease for an inode whose connection is gone, so that it can fetch again. `done` gets nil, or why not.
    ///
    /// The kernel has cached opens of the inode, so a backing id would not do; any other grant of the version would.
    func reopen(_ inode: OpenInode, done: @escaping @Sendable (Errno?) -> Void) {
        let isFirst = inode.reopening.withLock { waiting in
            defer { waiting = (waiting ?? []) + [done] }
            return waiting == nil
        }
        guard isFirst else { return }
        requestOpen(inode.number, passthrough: false) { [self] result in
            let error = result.flatMap { path in accept(path, for: inode) }
            let waiting = inode.reopening.withLock { waiting in
                defer { waiting = nil }
                return waiting ?? []
            }
            let failure: Errno? = if case .failure(let errno) = error { errno } else { nil }
            if failure == .staleNFSFileHandle { inode.isOrphaned.store(true, ordering: .releasing) }
            for done in waiting { done(failure) }
        }
    }

    private func accept(_ path: DataPath, for inode: OpenInode) -> Result<Void, Errno> {
        guard path.kind != .passthrough, path.size == inode.path.size || path.kind == .source else {
            return .failure(.staleNFSFileHandle)
        }
        inode.replacePath(path)
        return .success(())
    }
}

extension WireRelease {
    init(_ lease: UInt64) {
        self.init()
        self.lease = lease
    }
}
