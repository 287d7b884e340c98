import CFuse
import Coordination
import FileSystem
import Glibc
import Platform
import SystemPackage

extension Bridge {
    func makeNode(
        _ raw: fuse_req_t, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>, _ mode: mode_t, _ device: dev_t
    ) {
        let (name, caller) = (ByteString(cString: name), raw.caller)
        answerEntry(raw, in: parent) {
            fileSystem.makeNode(
                name, in: inode(of: parent), mode: mode, device: UInt64(device), caller: caller, operation: $0,
                answer: $1)
        }
    }

    func makeDirectory(_ raw: fuse_req_t, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>, _ mode: mode_t) {
        let (name, caller) = (ByteString(cString: name), raw.caller)
        answerEntry(raw, in: parent) {
            fileSystem.makeDirectory(name, in: inode(of: parent), mode: mode, caller: caller, operation: $0, answer: $1)
        }
    }

    func makeSymbolicLink(
        _ raw: fuse_req_t, _ target: UnsafePointer<CChar>, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>
    ) {
        let (name, target, caller) = (ByteString(cString: name), ByteString(cString: target), raw.caller)
        answerEntry(raw, in: parent) {
            fileSystem.makeSymbolicLink(
                name, in: inode(of: parent), to: target, caller: caller, operation: $0, answer: $1)
        }
    }

    func makeHardLink(_ raw: fuse_req_t, _ node: fuse_ino_t, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>) {
        let (name, caller) = (ByteString(cString: name), raw.caller)
        answerEntry(raw, in: parent) {
            fileSystem.makeHardLink(
                to: inode(of: node), name, in: inode(of: parent), caller: caller, operation: $0, answer: $1)
        }
    }

    private func answerEntry(
        _ raw: fuse_req_t, in parent: fuse_ino_t,
        by start: (_ operation: UInt64, @escaping MountedFileSystem.Answer<WireAttributes>) -> Void
    ) {
        answerChange(raw, changing: [parent], by: start) { [self] request, attributes in
            request.reply(entry: entry(attributes))
        }
    }

    func remove(_ raw: fuse_req_t, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>, directory: Bool) {
        let (name, caller) = (ByteString(cString: name), raw.caller)
        answerChange(raw, changing: [parent]) {
            fileSystem.remove(
                name, in: inode(of: parent), directory: directory, caller: caller, operation: $0, answer: $1)
        } with: { request, _ in
            request.succeed()
        }
    }

    func rename(
        _ raw: fuse_req_t, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>, _ newParent: fuse_ino_t,
        _ newName: UnsafePointer<CChar>, _ flags: UInt32
    ) {
        let (name, newName, caller) = (ByteString(cString: name), ByteString(cString: newName), raw.caller)
        answerChange(raw, changing: [parent, newParent]) {
            fileSystem.rename(
                name, in: inode(of: parent), to: newName, in: inode(of: newParent), flags: flags, caller: caller,
                operation: $0, answer: $1)
        } with: { request, _ in
            request.succeed()
        }
    }

    private static let changeable =
        FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_ATIME
        | FUSE_SET_ATTR_MTIME

    /// - Parameter wanted: which fields of `new` count (FUSE_SET_ATTR_…).
    func setAttributes(
        _ raw: fuse_req_t, _ node: fuse_ino_t, _ new: stat, _ wanted: Int32, _ info: UnsafePointer<fuse_file_info>?
    ) {
        var change = WireSetAttributes()
        change.inode = inode(of: node)
        change.caller = raw.caller
        if wanted & FUSE_SET_ATTR_MODE != 0 { change.mode = new.st_mode & 0o7777 }
        if wanted & FUSE_SET_ATTR_UID != 0 { change.uid = new.st_uid }
        if wanted & FUSE_SET_ATTR_GID != 0 { change.gid = new.st_gid }
        if wanted & FUSE_SET_ATTR_SIZE != 0 { change.size = UInt64(max(0, new.st_size)) }
        if wanted & FUSE_SET_ATTR_ATIME != 0 {
            change.accessed = WireTimeChange(new.st_atim, now: wanted & FUSE_SET_ATTR_ATIME_NOW != 0)
        }
        if wanted & FUSE_SET_ATTR_MTIME != 0 {
            change.modified = WireTimeChange(new.st_mtim, now: wanted & FUSE_SET_ATTR_MTIME_NOW != 0)
        }
        let file = info.flatMap { self.file($0) }
        let isEmpty = wanted & Self.changeable == 0
        answerChange(raw) {
            if isEmpty {
                fileSystem.endPrivileges(of: change.inode, answer: $1)
            } else {
                fileSystem.setAttributes(change, file: file?.takeUnretainedValue(), operation: $0, answer: $1)
            }
        } with: { request, attributes in
            request.reply(attributes: stat(attributes), timeout: attributes.timeout)
        }
    }
}

extension WireTimeChange {
    fileprivate init(_ time: timespec, now: Bool) {
        self.init()
        self.now = now
        seconds = Int64(time.tv_sec)
        nanoseconds = UInt32(clamping: time.tv_nsec)
    }
}
