import Platform

extension FilePaths {
    /// The mount point as the kernel lists it; nil when nothing is mounted there. Makes no call on the mount.
    /// - Parameter mountPoint: absolute.
    static func mounted(_ mountPoint: String) -> String? {
        // By name first: a mount whose process has died answers no call.
        let listed = Set(Platform.MountTable.entries().map(\.mountPoint))
        if listed.contains(mountPoint) { return mountPoint }
        if let parent = resolved(parent(of: mountPoint)), let name = mountPoint.split(separator: "/").last {
            let path = parent == "/" ? "/\(name)" : "\(parent)/\(name)"
            if listed.contains(path) { return path }
        }
        guard let resolved = resolved(mountPoint), listed.contains(resolved) else { return nil }
        return resolved
    }
}
