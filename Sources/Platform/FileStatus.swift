import CLinux
import Glibc
import SystemPackage

/// A point in time as stat(2) gives it.
package struct FileTime: Hashable, Comparable, Sendable {
    /// Seconds since 1970-01-01 UTC; negative before.
    package var seconds: Int64
    /// 0..<1_000_000_000
    package var nanoseconds: UInt32

    package init(seconds: Int64, nanoseconds: UInt32 = 0) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    package static func < (left: FileTime, right: FileTime) -> Bool {
        (left.seconds, left.nanoseconds) < (right.seconds, right.nanoseconds)
    }
}

/// What statx(2) tells of a file.
package struct FileStatus: Sendable {
    package let inode, size: UInt64
    /// Allocated space in 512-byte units.
    package let blocks: UInt64
    /// Type and permission bits (`S_IFMT` and below).
    package let mode: UInt32
    package let uid, gid, links, blockSize: UInt32
    package let deviceMajor, deviceMinor, rdevMajor, rdevMinor: UInt32
    package let accessed, modified, changed: FileTime

    /// statx(2) of `path` (a `String` passes as it is; other names are bytes, so not a `String`) relative to the directory
    /// descriptor `directory` (AT_FDCWD for the working directory).
    package init(of path: UnsafePointer<CChar>, in directory: CInt = AT_FDCWD, flags: CInt = 0) throws(Errno) {
        var raw = larder_stat()
        _ = try Errno.check(larder_statx(directory, path, flags, &raw))
        inode = raw.inode
        size = raw.size
        blocks = raw.blocks
        mode = raw.mode
        uid = raw.uid
        gid = raw.gid
        links = raw.links
        blockSize = raw.block_size
        deviceMajor = raw.device_major
        deviceMinor = raw.device_minor
        rdevMajor = raw.rdev_major
        rdevMinor = raw.rdev_minor
        accessed = FileTime(seconds: raw.atime_seconds, nanoseconds: raw.atime_nanoseconds)
        modified = FileTime(seconds: raw.mtime_seconds, nanoseconds: raw.mtime_nanoseconds)
        changed = FileTime(seconds: raw.ctime_seconds, nanoseconds: raw.ctime_nanoseconds)
    }

    /// Of a device, the number that it stands for, as the kernel encodes it in 32 bits (`new_encode_dev`); else 0.
    package var device: UInt32 { rdevMinor & 0xFF | rdevMajor << 8 | (rdevMinor & ~0xFF) << 12 }

    package var isDirectory: Bool { mode & S_IFMT == S_IFDIR }
    package var isRegularFile: Bool { mode & S_IFMT == S_IFREG }
    package var isSymbolicLink: Bool { mode & S_IFMT == S_IFLNK }
}
