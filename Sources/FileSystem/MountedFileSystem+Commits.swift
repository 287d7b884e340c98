import Coordination
import Glibc
import Platform
import SystemPackage

extension MountedFileSystem {
    /// What close(2) waits for: what was written through the grant is committed as its write type has it, and then the
    /// POSIX locks of the closing process are gone.
    ///
    /// - Parameter owner: of the locks, as the kernel numbers it.
    package func flush(_ file: OpenFile, owner: UInt64, answer: @escaping Answer<Void>) {
        commitAtClose(file) { [self] result in
            let answer: Answer<Void> = { [self] result in announceClose(file) { answer(result) } }
            guard locks.holds(file.inode.number, owner, wholeFile: false) else { return answer(result) }
            link.workers.submit { [self] in
                unlockAll(file.inode.number, owner, wholeFile: false) { answer(result) }
            }
        }
    }

    private func commitAtClose(_ file: OpenFile, answer: @escaping Answer<Void>) {
        guard let writing = file.inode.writing else { return answer(.success(())) }
        // A store's own file has the bytes already; the coordinator is told that it has changed.
        if file.inode.path.kind == .source, !writing.isUncommittedNow { return answer(.success(())) }
        // A write type that keeps the data on the node: its journal knows the file, and the bytes are in it. The release
        // tells that they are to be uploaded, and a coordinator or mount that dies before says so as well.
        if writing.error == nil, writing.takeUnaskedClose() { return answer(.success(())) }
        commit(file.inode, synchronize: false, answer: answer)
    }

    /// fsync(2), or fdatasync(2) with `dataOnly`.
    package func synchronize(_ file: OpenFile, dataOnly: Bool, answer: @escaping Answer<Void>) {
        let path = file.inode.path
        if path.isRestored {
            return whenOpen(file.inode) { [self] error in
                if let error { return answer(.failure(error)) }
                synchronize(file, dataOnly: dataOnly, answer: answer)
            }
        }
        guard path.kind == .source, let descriptor = path.file else {
            // A handle that only reads makes lasting what others wrote.
            let writer = file.inode.writing == nil ? openInodes.find(file.inode.number) : file.inode
            return commit(writer ?? file.inode, synchronize: true, answer: answer)
        }
        Self.fileWorkers.submit {
            do throws(Errno) {
                try descriptor.synchronize(dataOnly: dataOnly)
                answer(.success(()))
            } catch { answer(.failure(error)) }
        }
    }

    private func commit(_ inode: OpenInode, synchronize: Bool, answer: @escaping Answer<Void>) {
        guard let writing = inode.writing else { return answer(.success(())) }
        if let error = writing.error { return answer(.failure(error)) }
        _ = writing.takeUnaskedClose()
        let wasWritten = writing.takeUncommitted()
        let epoch = namesEpoch.load(ordering: .acquiring)
        // What the kernel writes by itself is not seen here.
        let isUnseen = inode.isPassthrough
        request(
            for: inode,
            { lease in
                var request = WireCommit()
                request.lease = lease
                request.synchronize = synchronize
                request.written = wasWritten || isUnseen
                return .commit(request)
            }
        ) { result in
            switch result {
            case .success(let reply):
                guard case .committed(let committed) = reply.body else { return answer(.failure(.protocolError)) }
                if committed.hasAttributes { writing.note(committed.attributes, namesEpoch: epoch) }
                answer(.success(()))
            case .failure(let error):
                if wasWritten { writing.putBackUncommitted() }
                answer(.failure(error))
            }
        }
    }

    /// fsync(2) of a directory: its entries are lasting.
    package func synchronizeDirectory(_ inode: UInt64, answer: @escaping Answer<Void>) {
        var request = WireSynchronizeDirectory()
        request.inode = inode
        link.request(.synchronizeDirectory(request)) { answer($0.done()) }
    }
}

extension Result where Success == CoordinatorLink.Reply, Failure == CoordinationError {
    /// The answer to a request that is answered by Done.
    func done() -> Result<Void, Errno> { answer { if case .done = $0 { () } else { nil } } }
}
