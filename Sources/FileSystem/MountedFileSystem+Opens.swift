import Coordination
import Glibc
import Platform
import SystemPackage

extension MountedFileSystem {
    /// Opens an inode. The file must be given back with `close`, even when nobody wants it any more.
    /// ESTALE: the inode has been superseded; look its name up again.
    ///
    /// - Parameter flags: of open(2): the access mode, O_TRUNC, O_APPEND.
    package func open(
        _ inode: UInt64, flags: Int32 = O_RDONLY, caller: WireCaller = WireCaller(),
        answer: @escaping Answer<OpenFile>
    ) {
        let truncates = flags & O_TRUNC != 0
        let access: OpenInode.Access = truncates || flags & O_ACCMODE != O_RDONLY ? .writing : .reading
        switch openInodes.begin(inode, access, alone: truncates, answer) {
        case .wait: break
        case .share(let file): answer(.success(file))
        case .ask(let question): ask(question, flags, caller)
        }
    }

    private func ask(_ question: OpenInodeTable.Question, _ flags: Int32, _ caller: WireCaller) {
        var request = WireOpen()
        request.inode = question.inode
        request.passthrough = usesPassthrough && question.mayPassThrough
        request.flags = UInt32(bitPattern: flags)
        request.caller = caller
        requestOpen(request) { [self] result in
            let result = result.mapError(\.errno)
            switch openInodes.finish(question, result) {
            case .opened(let opened):
                for (waiter, file) in opened {
                    if flags & O_TRUNC != 0 { file.inode.writing?.noteWrite() }
                    waiter(.success(file))
                }
            case .failed(let waiters):
                // What was granted all the same cannot be used.
                if case .success(let path) = result { giveBack(path.lease, path.generation) }
                let error: Errno = if case .failure(let error) = result { error } else { .ioError }
                for waiter in waiters { waiter(.failure(error)) }
            case .unsuitable(let next):
                if case .success(let path) = result { giveBack(path.lease, path.generation) }
                // On a receive thread, which must not send. What had to be cut off is cut off.
                link.workers.submit { [self] in ask(next, flags & ~O_TRUNC, caller) }
            }
        }
    }

    /// Creates a regular file and opens it. EEXIST only with O_EXCL: else somebody else created it meanwhile, and ESTALE
    /// makes the kernel look the name up and open that.
    package func create(
        _ name: ByteString, in parent: UInt64, mode: UInt32, flags: Int32, caller: WireCaller,
        operation: UInt64? = nil, answer: @escaping Answer<(WireAttributes, OpenFile)>
    ) {
        guard name.count <= 255 else { return answer(.failure(.fileNameTooLong)) }
        var request = WireCreate()
        request.parent = parent
        request.name = name.data
        request.mode = mode
        request.flags = UInt32(bitPattern: flags)
        request.passthrough = usesPassthrough
        request.caller = caller
        request.tellsParent = knownDirectories.note(name, in: parent)
        link.change(.create(request), operation: operation) { [self] result in
            switch result {
            case .failure(let error):
                let raced = error.errno == .fileExists && flags & O_EXCL == 0
                answer(.failure(raced ? .staleNFSFileHandle : error.errno))
            case .success(let reply):
                guard case .created(let created) = reply.body, created.hasEntry, created.hasOpened else {
                    return answer(.failure(.protocolError))
                }
                let attributes = created.entry.attributes
                if created.hasParent { knownDirectories.update(created.parent) }
                switch grant(created.opened, reply, of: attributes.inode) {
                case .failure(let error): answer(.failure(error.errno))
                case .success(let path):
                    // A new file that is staged does not exist without its commit, also for who only reads it.
                    let writes = path.kind == .staged || flags & (O_ACCMODE | O_TRUNC) != O_RDONLY
                    guard
                        case .opened(let opened) = openInodes.add(path, attributes.inode, writes ? .writing : .reading),
                        let file = opened.first?.1
                    else {
                        giveBack(path.lease, path.generation)
                        return answer(.failure(.ioError))
                    }
                    file.inode.writing?.noteWrite()
                    answer(.success((attributes, file)))
                }
            }
        }
    }

    /// Gives an open back. The last of a grant gives the lease back. Sends: not on a receive thread.
    package func close(_ file: OpenFile) {
        for inode in openInodes.end(file) {
            inode.forgetRecord()
            let path = inode.path
            if path.kind == .mapped { reportLastAccess(inode) }
            var release = WireRelease(path.lease)
            release.written = inode.writing?.takeUncommitted() ?? false
            let isKept = path.isRestored && path.session == link.session
            link.notify(.release(release), boundTo: isKept ? link.generation : path.generation)
        }
    }

    /// The same from any thread.
    package func closeLater(_ file: OpenFile) { link.workers.submit { [self] in close(file) } }

    private func giveBack(_ lease: UInt64, _ generation: UInt64) {
        link.workers.submit { [self] in link.notify(.release(WireRelease(lease)), boundTo: generation) }
    }

    func requestOpen(
        _ request: WireOpen, answer: @escaping @Sendable (Result<DataPath, CoordinationError>) -> Void
    ) {
        link.request(.open(request)) { [self] result in
            switch result {
            case .failure(let error): answer(.failure(error))
            case .success(let reply):
                guard case .opened(let opened) = reply.body else {
                    return answer(.failure(CoordinationError(.protocolError, "Open was answered with something else")))
                }
                answer(grant(opened, reply, of: request.inode))
            }
        }
    }

    /// What the coordinator has granted, or EIO, and then it is given back.
    private func grant(
        _ opened: WireOpened, _ reply: CoordinatorLink.Reply, of inode: UInt64
    ) -> Result<DataPath, CoordinationError> {
        do throws(Errno) {
            return .success(try DataPath(opened, reply.descriptors, generation: reply.generation))
        } catch {
            logger.error("the coordinator's grant for inode \(inode) cannot be used: \(error)")
            giveBack(opened.lease, reply.generation)
            return .failure(CoordinationError(error, "a grant that cannot be used"))
        }
    }
}

extension WireRelease {
    init(_ lease: UInt64) {
        self.init()
        self.lease = lease
    }
}
