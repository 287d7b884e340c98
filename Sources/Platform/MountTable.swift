import CLinux
import Glibc
import SystemPackage

/// One line of /proc/PID/mountinfo (proc(5)).
package struct MountTableEntry: Hashable, Sendable {
    package let mountPoint: String
    /// "ext4", "fuse.larder".
    package let type: String
    package let source: String
    /// "major:minor" of the file system, as `FileStatus.deviceMajor` and `deviceMinor` give it for its files.
    package let device: String
    /// Options of the mount and of the file system.
    package let options: [String]
}

/// The mounts that this process sees, read anew at each call.
package enum MountTable {
    package static func entries() -> [MountTableEntry] {
        guard let file = try? Descriptor.open("/proc/self/mountinfo", O_RDONLY) else { return [] }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while let count = try? chunk.withUnsafeMutableBytes({ try file.read(into: $0, at: UInt64(bytes.count)) }),
            count > 0
        {
            bytes += chunk.prefix(count)
        }
        return parse(String(decoding: bytes, as: UTF8.self))
    }

    /// The topmost mount at `path` (absolute, without symbolic links).
    package static func entry(at path: String) -> MountTableEntry? { entries().last { $0.mountPoint == path } }

    /// The mount that a path lies in, by its longest prefix.
    package static func entry(containing path: String) -> MountTableEntry? {
        var best: MountTableEntry?
        for entry in entries() {
            let prefix = entry.mountPoint
            guard prefix == "/" || path == prefix || path.hasPrefix(prefix + "/") else { continue }
            if prefix.utf8.count >= best?.mountPoint.utf8.count ?? 0 { best = entry }
        }
        return best
    }

    package static func parse(_ text: String) -> [MountTableEntry] {
        text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            // The number of fields before " - " varies: there are optional ones.
            guard let dash = fields.firstIndex(of: "-"), dash >= 6, fields.count > dash + 2 else { return nil }
            var options = fields[5].split(separator: ",").map(String.init)
            if fields.count > dash + 3 { options += fields[dash + 3].split(separator: ",").map(String.init) }
            return MountTableEntry(
                mountPoint: unescape(fields[4]), type: String(fields[dash + 1]), source: unescape(fields[dash + 2]),
                device: String(fields[2]), options: options)
        }
    }

    // Space, tab, newline and backslash are written as three octal digits.
    private static func unescape(_ field: Substring) -> String {
        guard field.contains("\\") else { return String(field) }
        var result: [UInt8] = []
        var rest = Array(field.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.count >= 3,
                let value = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
            {
                result.append(value)
                rest = rest.dropFirst(3)
            } else {
                result.append(byte)
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// umount2(2), not following a symbolic link at the end. Needs CAP_SYS_ADMIN.
    /// - Parameter lazily: MNT_DETACH: out of sight at once, gone when the last file is closed.
    /// - Throws: EBUSY while files are open, EINVAL when nothing is mounted there, EPERM.
    package static func unmount(_ path: String, lazily: Bool, forced: Bool = false) throws(Errno) {
        let force: CInt = 1
        let detach: CInt = 2
        let noFollow: CInt = 8
        _ = try Errno.check(larder_unmount(path, noFollow | (lazily ? detach : 0) | (forced ? force : 0)))
    }
}
