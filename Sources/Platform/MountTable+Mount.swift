import CLinux
import SystemPackage

extension MountTable {
    /// mount(2). Needs CAP_SYS_ADMIN.
    /// - Parameters:
    ///   - path: absolute.
    ///   - flags: MS_… of mount(2).
    ///   - data: the file system's own options.
    /// - Throws: EPERM, ENODEV (no such type), EINVAL (an option), ….
    package static func mount(
        _ source: String, at path: String, type: String, flags: UInt, data: [String]
    ) throws(Errno) {
        _ = try Errno.check(larder_mount(source, path, type, flags, data.joined(separator: ",")))
    }
}
