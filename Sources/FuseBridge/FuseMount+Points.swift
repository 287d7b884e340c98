extension FuseMount {
    /// Checks that something can be mounted at `path`, before anything is started for it.
    /// - Returns: the path, absolute and without symbolic links.
    /// - Throws: `MountError` when it is missing, no directory, not empty, or already has a Larder mount.
    package static func check(mountPoint path: String, nonEmpty: Bool) throws(MountError) -> String {
        try FuseDevice.resolve(path, nonEmpty: nonEmpty)
    }

    /// Unmounts whatever is mounted at `path` (absolute, without symbolic links), by another process too.
    /// - Throws: `MountError` when files are open and `lazily` is false, or nothing is mounted.
    package static func unmount(at path: String, lazily: Bool) throws(MountError) {
        try FuseDevice.unmount(path, lazily: lazily)
    }
}
