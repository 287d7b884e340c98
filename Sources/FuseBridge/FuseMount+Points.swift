import Glibc
import Platform
import SystemPackage

extension FuseMount {
    /// Checks that something can be mounted at `path`, before anything is started for it.
    /// - Returns: the path, absolute and without symbolic links.
    /// - Throws: `MountError` when it is missing, no directory, not empty, or already has a Larder mount.
    package static func check(mountPoint path: String, nonEmpty: Bool) throws(MountError) -> String {
        try FuseDevice.resolve(path, nonEmpty: nonEmpty)
    }

    /// Takes the mount at `path` out of sight, and ends its FUSE connection where this process may: for a mount that nobody
    /// serves, or whose files are open.
    /// - Throws: `MountError` when nothing is mounted, or this user may not unmount it.
    package static func unmountForced(at path: String) throws(MountError) {
        do throws(Errno) { try MountTable.unmount(path, lazily: true, forced: true) } catch {
            try FuseDevice.unmount(path, lazily: true)
        }
    }

    /// Ends the FUSE connection of the mount at `path` (absolute, without symbolic links): whoever waits for an answer gets an
    /// error, and so does each later call. The mount stays visible. Nothing happens where that is not allowed.
    package static func abort(at path: String) {
        // As fs/fuse numbers connections: by the minor of the mount's device.
        guard let device = MountTable.entry(at: path)?.device, let minor = device.split(separator: ":").last,
            let file = try? Descriptor.open("/sys/fs/fuse/connections/\(minor)/abort", O_WRONLY)
        else { return }
        try? Array("1".utf8).withUnsafeBytes { try file.write($0, at: 0) }
    }

    /// Unmounts whatever is mounted at `path` (absolute, without symbolic links), by another process too.
    /// - Throws: `MountError` when files are open and `lazily` is false, or nothing is mounted.
    package static func unmount(at path: String, lazily: Bool) throws(MountError) {
        try FuseDevice.unmount(path, lazily: lazily)
    }
}
