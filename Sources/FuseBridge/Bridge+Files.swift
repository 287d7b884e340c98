import CFuse
import FileSystem
import Glibc
import Platform
import SystemPackage

extension Bridge {
    func open(_ raw: fuse_req_t, _ node: fuse_ino_t, _ info: fuse_file_info) {
        let caller = raw.caller
        let number = CurrentRequest.number
        if CurrentRequest.isRepeated { fileSystem.dropInherited(number) }
        guard let reply = ParkedRequest.park(FuseRequest(raw)) else { return }
        fileSystem.open(inode(of: node), flags: info.flags, caller: caller) { [self] result in
            switch result {
            case .failure(let error): reply.claim()?.fail(error)
            case .success(let file):
                guard let request = reply.claim() else { return fileSystem.closeLater(file) }
                guard let handle = fileSystem.addHandle(file, request: number) else {
                    request.fail(.tooManyOpenFilesInSystem)
                    return fileSystem.closeLater(file)
                }
                guard request.reply(opened: file.reply(handle, in: self)) else {
                    // The kernel has forgotten the open, so no release will come.
                    _ = fileSystem.takeFile(handle)
                    return fileSystem.closeLater(file)
                }
            }
        }
    }

    func create(
        _ raw: fuse_req_t, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>, _ mode: mode_t, _ info: fuse_file_info
    ) {
        let name = ByteString(cString: name)
        let caller = raw.caller
        let number = CurrentRequest.number
        if CurrentRequest.isRepeated { fileSystem.dropInherited(number) }
        guard let reply = ParkedRequest.park(FuseRequest(raw), in: busy, changing: [parent]) else { return }
        let operation = fileSystem.operation(of: number)
        fileSystem.create(
            name, in: inode(of: parent), mode: mode, flags: info.flags, caller: caller, operation: operation
        ) { [self] result in
            defer { fileSystem.answered(number) }
            switch result {
            case .failure(let error): reply.claim()?.fail(error)
            case .success((let attributes, let file)):
                guard let request = reply.claim() else { return fileSystem.closeLater(file) }
                guard let handle = fileSystem.addHandle(file, request: number) else {
                    request.fail(.tooManyOpenFilesInSystem)
                    return fileSystem.closeLater(file)
                }
                guard request.reply(created: newEntry(attributes), file.reply(handle, in: self)) else {
                    _ = fileSystem.takeFile(handle)
                    return fileSystem.closeLater(file)
                }
            }
        }
    }

    func flush(_ raw: fuse_req_t, _ info: UnsafePointer<fuse_file_info>) {
        guard let unmanaged = self.file(info) else { return FuseRequest(raw).succeed() }
        let owner = info.pointee.lock_owner
        let file = unmanaged.takeUnretainedValue()
        // A caller that was interrupted does not wait, but what it wrote is committed all the same.
        let reply = ParkedRequest.park(FuseRequest(raw))
        fileSystem.flush(file, owner: owner) { result in
            guard let request = reply?.claim() else { return }
            switch result {
            case .success: request.succeed()
            case .failure(let error): request.fail(error)
            }
        }
    }

    func release(_ raw: fuse_req_t, _ info: UnsafePointer<fuse_file_info>) {
        if let file = self.file(info)?.takeUnretainedValue() {
            fileSystem.unlock(file)
            _ = fileSystem.takeFile(info.pointee.fh)
            fileSystem.close(file)
        }
        FuseRequest(raw).succeed()
    }

    @inline(__always)
    func read(_ raw: fuse_req_t, _ size: Int, _ offset: off_t, _ info: UnsafePointer<fuse_file_info>) {
        guard offset >= 0, let file = self.file(info) else {
            return FuseRequest(raw).fail(.invalidArgument)
        }
        file._withUnsafeGuaranteedRef { file in
            let buffer = UnsafeMutableRawBufferPointer(rebasing: ReadBuffer.current()[..<min(size, ReadBuffer.size)])
            if let count = fileSystem.readPresent(file, at: UInt64(offset), into: buffer) {
                FuseRequest(raw).reply(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            } else {
                readMissing(raw, file, UInt64(offset), buffer.count)
            }
        }
    }

    private func readMissing(_ raw: fuse_req_t, _ file: OpenFile, _ offset: UInt64, _ count: Int) {
        guard let reply = ParkedRequest.park(FuseRequest(raw)) else { return }
        fileSystem.readMissing(file, at: offset, count: count) { result in
            guard let request = reply.claim() else { return }
            switch result {
            case .success(let read): request.reply(read.bytes)
            case .failure(let error): request.fail(error)
            }
        }
    }
}

extension OpenFile {
    /// What the kernel is told of an open; libfuse 3.14 has no field for the backing id.
    ///
    /// A read-only mount wants to hear of no close(2). In others, that of any descriptor of a file ends the fcntl(2) locks
    /// that its process has of the file, whatever the descriptor was opened for.
    fileprivate func reply(_ handle: UInt64, in bridge: Bridge) -> larder_fuse_open_out {
        var flags: UInt32 = 0
        var backing: Int32 = 0
        switch kernelMode {
        case .passthrough(let backingID):
            flags = UInt32(LARDER_FOPEN_PASSTHROUGH)
            backing = backingID
        case .direct: flags = UInt32(LARDER_FOPEN_DIRECT_IO)
        case .directBeside(let backingID):
            flags = UInt32(LARDER_FOPEN_PASSTHROUGH | LARDER_FOPEN_DIRECT_IO)
            backing = backingID
        case .cached:
            if keepsKernelCache { flags = UInt32(LARDER_FOPEN_KEEP_CACHE) }
            // A kernel without passthrough has no other warm path than its pages, and may not map what is read directly.
            if isFirstPass, bridge.fileSystem.usesPassthrough { flags |= UInt32(LARDER_FOPEN_DIRECT_IO) }
        }
        if bridge.isReadOnly { flags |= UInt32(LARDER_FOPEN_NOFLUSH) }
        return larder_fuse_open_out(fh: handle, open_flags: flags, backing_id: backing)
    }
}
