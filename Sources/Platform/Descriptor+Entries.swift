import CLinux
import Glibc
import SystemPackage

/// Changes to the entries of this directory. Names are one component, and a symbolic link is never followed. Each throws
/// the errno of its call; EINVAL for a NUL in a name.
extension Descriptor {
    /// statx(2) of an entry.
    package func status(of name: ByteString) throws(Errno) -> FileStatus {
        try Self.withName(name) { name throws(Errno) in try FileStatus(of: name, in: raw, flags: AT_SYMLINK_NOFOLLOW) }
    }

    /// mkdirat(2).
    package func makeDirectory(_ name: ByteString, mode: UInt32) throws(Errno) {
        try Self.withName(name) { name throws(Errno) in
            _ = try Errno.check(larder_make_directory(raw, name, mode))
        }
    }

    /// mknodat(2); `mode` has the type, `device` is a dev_t.
    package func makeNode(_ name: ByteString, mode: UInt32, device: UInt64) throws(Errno) {
        try Self.withName(name) { name throws(Errno) in
            _ = try Errno.check(larder_make_node(raw, name, mode, device))
        }
    }

    /// symlinkat(2).
    package func makeLink(_ name: ByteString, target: ByteString) throws(Errno) {
        try Self.withName(name) { name throws(Errno) in
            try Self.withName(target) { target throws(Errno) in
                _ = try Errno.check(larder_make_link(raw, name, target))
            }
        }
    }

    /// linkat(2) of an entry of this directory, as `newName` in `other`.
    package func makeHardLink(
        of name: ByteString, in other: Descriptor, as newName: ByteString
    ) throws(Errno) {
        try Self.withName(name) { name throws(Errno) in
            try Self.withName(newName) { newName throws(Errno) in
                _ = try Errno.check(larder_make_hard_link(raw, name, other.raw, newName))
            }
        }
    }

    /// unlinkat(2), of a directory when `isDirectory`.
    package func remove(_ name: ByteString, isDirectory: Bool) throws(Errno) {
        try Self.withName(name) { name throws(Errno) in
            _ = try Errno.check(larder_remove(raw, name, isDirectory ? AT_REMOVEDIR : 0))
        }
    }

    /// renameat2(2) with `flags` of `renameNoReplace`, `renameExchange`.
    package func rename(
        _ name: ByteString, to other: Descriptor, _ newName: ByteString, flags: UInt32
    ) throws(Errno) {
        try Self.withName(name) { name throws(Errno) in
            try Self.withName(newName) { newName throws(Errno) in
                _ = try Errno.check(larder_rename(raw, name, other.raw, newName, flags))
            }
        }
    }

    /// O_DIRECT and O_NOATIME (open(2)).
    package static let direct = CInt(LARDER_O_DIRECT)
    package static let noAccessTime = CInt(LARDER_O_NOATIME)

    package static let renameNoReplace = UInt32(LARDER_RENAME_NOREPLACE)
    package static let renameExchange = UInt32(LARDER_RENAME_EXCHANGE)

    // The kernel would take what is before the NUL for the name.
    static func withName<Result>(
        _ name: ByteString, _ body: (UnsafePointer<CChar>) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        if name.bytes.contains(0) { throw .invalidArgument }
        return try name.withCString(body)
    }
}

/// Changes to the file that this descriptor is: opened, or `pathOnly | O_NOFOLLOW`, when it can be a symbolic link itself.
extension Descriptor {
    /// chown(2) of the file or link itself; nil stays as it is.
    package func setOwner(uid: UInt32?, gid: UInt32?) throws(Errno) {
        _ = try Errno.check(larder_change_owner(raw, uid ?? .max, gid ?? .max))
    }

    /// chmod(2). Throws EOPNOTSUPP for a symbolic link. Needs /proc.
    package func setPermissions(_ mode: UInt32) throws(Errno) {
        if try status().isSymbolicLink { throw .notSupportedOnSocket }
        _ = try Errno.check(larder_change_mode(raw, mode))
    }

    /// utimensat(2) of the file or link itself; nil stays as it is.
    package func setTimes(accessed: timespec?, modified: timespec?) throws(Errno) {
        let omitted = timespec(tv_sec: 0, tv_nsec: Int((1 << 30) - 2))  // UTIME_OMIT, a macro
        let (accessed, modified) = (accessed ?? omitted, modified ?? omitted)
        _ = try Errno.check(
            larder_change_times(
                raw, Int64(accessed.tv_sec), accessed.tv_nsec, Int64(modified.tv_sec), modified.tv_nsec))
    }

    /// Opens the same file anew with other open(2) flags. Throws ELOOP for a symbolic link. Needs /proc.
    package func reopen(_ flags: CInt) throws(Errno) -> Descriptor {
        if try status().isSymbolicLink { throw .tooManySymbolicLinkLevels }
        return Descriptor(owning: try Errno.check(larder_reopen(raw, flags)))
    }

    /// fsync(2).
    package func synchronize() throws(Errno) {
        guard fsync(raw) == 0 else { throw Errno(rawValue: errno) }
    }
}
