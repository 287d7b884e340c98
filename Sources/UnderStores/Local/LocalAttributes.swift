import Glibc
import Platform

extension ObjectAttributes {
    /// What statx(2) told, whole: nothing is partial on a local file system.
    init(_ status: FileStatus) {
        let kind: ObjectKind =
            switch status.mode & S_IFMT {
            case S_IFREG: .file
            case S_IFDIR: .directory
            case S_IFLNK: .symbolicLink
            default: .special
            }
        self.init(
            kind: kind, size: status.size, version: kind == .directory ? nil : ObjectVersion(status),
            modified: status.modified, accessed: status.accessed, changed: status.changed,
            permissions: status.mode & 0o7777, specialMode: kind == .special ? status.mode : nil,
            device: kind == .special ? status.device : nil, uid: status.uid, gid: status.gid, links: status.links,
            blocks: status.blocks)
    }
}

extension ObjectVersion {
    /// `major.minor:inode:mtime:ctime:size`, in decimal, times as seconds.nanoseconds. Reading a file changes none of
    /// them; every write, truncation or replacement changes one (see `LocalStore` for the limit).
    init(_ status: FileStatus) {
        let modified = "\(status.modified.seconds).\(status.modified.nanoseconds)"
        let changed = "\(status.changed.seconds).\(status.changed.nanoseconds)"
        let device = "\(status.deviceMajor).\(status.deviceMinor)"
        self.init(ByteString("\(device):\(status.inode):\(modified):\(changed):\(status.size)"))
    }
}
