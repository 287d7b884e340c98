import CFuse
import FileSystem
import Glibc
import SystemPackage

extension Bridge {
    func open(_ raw: fuse_req_t, _ node: fuse_ino_t, _ info: fuse_file_info) {
        guard info.flags & O_ACCMODE == O_RDONLY else { return FuseRequest(raw).fail(.readOnlyFileSystem) }
        guard let reply = ParkedRequest.park(FuseRequest(raw)) else { return }
        fileSystem.open(inode(of: node)) { [self] result in
            switch result {
            case .failure(let error): reply.claim()?.fail(error)
            case .success(let file):
                guard let request = reply.claim() else { return fileSystem.closeLater(file) }
                let handle = Unmanaged.passRetained(file)
                guard request.reply(opened: file, UInt64(UInt(bitPattern: handle.toOpaque())), info) else {
                    // The kernel has forgotten the open, so no release will come.
                    handle.release()
                    return fileSystem.closeLater(file)
                }
            }
        }
    }

    func release(_ raw: fuse_req_t, _ info: fuse_file_info) {
        if let file: Unmanaged<OpenFile> = info.handle() { fileSystem.close(file.takeRetainedValue()) }
        FuseRequest(raw).succeed()
    }

    @inline(__always)
    func read(_ raw: fuse_req_t, _ size: Int, _ offset: off_t, _ info: UnsafePointer<fuse_file_info>) {
        guard offset >= 0, let file: Unmanaged<OpenFile> = info.pointee.handle() else {
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

extension FuseRequest {
    /// Answers OPEN. False: the caller was interrupted, and the kernel will send no release.
    fileprivate consuming func reply(opened file: OpenFile, _ handle: UInt64, _ info: fuse_file_info) -> Bool {
        if let backingID = file.inode.backingID {
            // libfuse 3.14 has no field for the backing id.
            var out = larder_fuse_open_out(
                fh: handle, open_flags: UInt32(LARDER_FOPEN_PASSTHROUGH), backing_id: backingID)
            let raw = take()
            return withUnsafeBytes(of: &out) { FuseRequest(raw).reply($0) }
        }
        var info = info
        info.fh = handle
        larder_fuse_set_keep_cache(&info, file.keepsKernelCache ? 1 : 0)
        return reply(open: info)
    }
}

extension fuse_file_info {
    /// The object whose pointer an open put into `fh`.
    @inline(__always)
    func handle<Object: AnyObject>() -> Unmanaged<Object>? {
        UnsafeRawPointer(bitPattern: UInt(fh)).map(Unmanaged.fromOpaque)
    }
}
