import CFuse
import Coordination
import FileSystem
import Glibc
import Platform
import SystemPackage

/// Translates between libfuse's callbacks and `MountedFileSystem`; it decides nothing.
///
/// Node numbers are the coordinator's inode numbers, but the root is 1 to the kernel, so the coordinator uses 1 for
/// nothing else. `fi->fh` is a number of `MountedFileSystem.files` or `.directories`, added by the open and taken by the
/// release: the kernel guarantees the pair.
final class Bridge: Sendable {
    let fileSystem: MountedFileSystem
    /// The kernel refuses changes by itself, and keeps locks by itself.
    let isReadOnly: Bool
    let busy = BusyDirectories()

    init(_ fileSystem: MountedFileSystem, isReadOnly: Bool) {
        self.fileSystem = fileSystem
        self.isReadOnly = isReadOnly
    }

    /// Calls `body` with the bridge of a request's session, without reference counting.
    @inline(__always)
    static func with(_ request: fuse_req_t?, _ body: (Bridge, fuse_req_t) -> Void) {
        guard let request, let user = fuse_req_userdata(request) else { return }
        let context = user.assumingMemoryBound(to: larder_fuse_context.self)
        Unmanaged<Bridge>.fromOpaque(context.pointee.bridge)._withUnsafeGuaranteedRef { body($0, request) }
    }

    /// The open file of a regular file's handle.
    @inline(__always)
    func file(_ info: UnsafePointer<fuse_file_info>) -> Unmanaged<OpenFile>? { fileSystem.files.find(info.pointee.fh) }

    func inode(of node: fuse_ino_t) -> UInt64 { node == FUSE_ROOT_ID ? fileSystem.link.root : node }
    func node(of inode: UInt64) -> fuse_ino_t { inode == fileSystem.link.root ? fuse_ino_t(FUSE_ROOT_ID) : inode }

    /// Parks a request, starts what answers it, and hands its result to `succeed`, or fails with its error.
    /// - Parameter directories: those that the request changes.
    func answer<Value>(
        _ raw: fuse_req_t, changing directories: [fuse_ino_t] = [],
        by start: (@escaping MountedFileSystem.Answer<Value>) -> Void,
        with succeed: @escaping @Sendable (consuming FuseRequest, Value) -> Void
    ) {
        guard let reply = ParkedRequest.park(FuseRequest(raw), in: busy, changing: directories) else { return }
        start { result in
            guard let request = reply.claim() else { return }
            switch result {
            case .success(let value): succeed(request, value)
            case .failure(let error): request.fail(error)
            }
        }
    }

    /// The same for what changes something: `start` gets the number of its operation, the same when the kernel sends the request
    /// again because this process, or a predecessor, has died.
    func answerChange<Value>(
        _ raw: fuse_req_t, changing directories: [fuse_ino_t] = [],
        by start: (_ operation: UInt64, @escaping MountedFileSystem.Answer<Value>) -> Void,
        with succeed: @escaping @Sendable (consuming FuseRequest, Value) -> Void
    ) {
        let number = CurrentRequest.number
        guard let reply = ParkedRequest.park(FuseRequest(raw), in: busy, changing: directories) else { return }
        start(fileSystem.operation(of: number)) { [fileSystem] result in
            if let request = reply.claim() {
                switch result {
                case .success(let value): succeed(request, value)
                case .failure(let error): request.fail(error)
                }
            }
            fileSystem.answered(number)
        }
    }

    // MARK: Metadata

    func lookup(_ raw: fuse_req_t, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>) {
        let name = ByteString(cString: name)
        // The kernel keeps nothing of this answer.
        if fileSystem.isAbsent(name, in: inode(of: parent)) { return FuseRequest(raw).fail(.noSuchFileOrDirectory) }
        guard let reply = ParkedRequest.park(FuseRequest(raw)) else { return }
        fileSystem.lookup(name, in: inode(of: parent)) { [self] result in
            guard let request = reply.claim() else { return }
            switch result {
            case .success(.entry(let attributes)): request.reply(entry: entry(attributes))
            case .success(.absent(let milliseconds)):
                guard milliseconds > 0 else { return request.fail(.noSuchFileOrDirectory) }
                var entry = fuse_entry_param()  // node 0: the kernel remembers the absence
                entry.entry_timeout = Double(milliseconds) / 1000
                request.reply(entry: entry)
            case .failure(let error): request.fail(error)
            }
        }
    }

    func attributes(_ raw: fuse_req_t, _ node: fuse_ino_t, _ info: UnsafePointer<fuse_file_info>?) {
        guard let reply = ParkedRequest.park(FuseRequest(raw)) else { return }
        // Only a regular file's handle comes along.
        let file = info.flatMap { self.file($0) }
        fileSystem.attributes(of: inode(of: node), file: file?.takeUnretainedValue()) { result in
            guard let request = reply.claim() else { return }
            switch result {
            case .success(let attributes): request.reply(attributes: stat(attributes), timeout: attributes.timeout)
            case .failure(let error): request.fail(error)
            }
        }
    }

    func readLink(_ raw: fuse_req_t, _ node: fuse_ino_t) {
        guard let reply = ParkedRequest.park(FuseRequest(raw)) else { return }
        fileSystem.readLink(inode(of: node)) { result in
            guard let request = reply.claim() else { return }
            switch result {
            case .success(let target):
                let raw = request.take()
                target.withCString { FuseRequest(raw).reply(link: $0) }
            case .failure(let error): request.fail(error)
            }
        }
    }

    func space(_ raw: fuse_req_t, _ node: fuse_ino_t) {
        guard let reply = ParkedRequest.park(FuseRequest(raw)) else { return }
        fileSystem.space(of: inode(of: node)) { result in
            guard let request = reply.claim() else { return }
            switch result {
            case .success(let space): request.reply(space: statvfs(space))
            case .failure(let error): request.fail(error)
            }
        }
    }

    func entry(_ attributes: WireAttributes) -> fuse_entry_param {
        var entry = fuse_entry_param()
        entry.ino = node(of: attributes.inode)
        entry.attr = stat(attributes)
        entry.attr_timeout = attributes.timeout
        entry.entry_timeout = attributes.timeout
        return entry
    }

    /// The same of a file that was just created: its attributes hold for the rest of the open(2), which looks at them once
    /// more (fuse_permission), though others may change them right after.
    func newEntry(_ attributes: WireAttributes) -> fuse_entry_param {
        var entry = entry(attributes)
        entry.attr_timeout = max(entry.attr_timeout, 0.001)
        return entry
    }
}

extension WireAttributes {
    /// How long the kernel may keep them, in seconds.
    var timeout: Double { Double(ttlMilliseconds) / 1000 }
}

extension stat {
    init(_ attributes: WireAttributes) {
        self.init()
        st_ino = ino_t(attributes.inode)
        st_mode = attributes.mode
        st_nlink = nlink_t(attributes.links)
        st_rdev = dev_t(attributes.device)
        st_uid = attributes.uid
        st_gid = attributes.gid
        st_size = off_t(clamping: attributes.size)
        st_blocks = blkcnt_t(clamping: attributes.blocks)
        st_blksize = 128 << 10  // Larder's block: what a program does best to read at once
        st_atim = timespec(attributes.accessedSeconds, attributes.accessedNanoseconds)
        st_mtim = timespec(attributes.modifiedSeconds, attributes.modifiedNanoseconds)
        st_ctim = timespec(attributes.changedSeconds, attributes.changedNanoseconds)
    }
}

extension timespec {
    fileprivate init(_ seconds: Int64, _ nanoseconds: UInt32) {
        self.init(tv_sec: Int(seconds), tv_nsec: Int(min(nanoseconds, 999_999_999)))
    }
}

extension statvfs {
    fileprivate init(_ space: WireSpace) {
        let unit: UInt64 = 4096
        self.init()
        f_bsize = UInt(unit)
        f_frsize = UInt(unit)
        f_blocks = fsblkcnt_t(space.totalBytes / unit)
        f_bfree = fsblkcnt_t(space.freeBytes / unit)
        f_bavail = fsblkcnt_t(space.availableBytes / unit)
        f_files = fsfilcnt_t(space.files)
        f_ffree = fsfilcnt_t(space.freeFiles)
        f_favail = fsfilcnt_t(space.freeFiles)
        f_namemax = 255
    }
}
