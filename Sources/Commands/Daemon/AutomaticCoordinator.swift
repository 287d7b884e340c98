import Glibc
import Platform
import SystemPackage

/// The settings of a coordinator that a mount starts for its user: no file, all defaults.
package enum AutomaticCoordinator {
    /// The most that is taken without being asked for.
    private static let largestDefaultCache: UInt64 = 100 << 30
    private static let smallestDefaultCache: UInt64 = 256 << 20
    /// A smaller disk holds no cache worth the name; it is most often a mistake.
    private static let smallestDisk: UInt64 = 16 << 20

    /// - Parameters:
    ///   - cacheDirectory: nil for `$XDG_CACHE_HOME/larder`, /var/cache/larder for root, or ~/.cache/larder.
    ///   - cacheSize: nil for 100 GiB, or four fifths of what is free where that is less.
    ///   - ramSize: nil or 0 for no RAM tier: the kernel's page cache does as much without taking memory for good.
    package static func settings(
        socket: String, cacheDirectory: String?, cacheSize: UInt64?, ramSize: UInt64?, logLevel: LogLevel,
        environment: [String: String], uid: UInt32
    ) throws(CommandFailure) -> CoordinatorSettings {
        let directory = cacheDirectory ?? defaultDirectory(environment: environment, uid: uid)
        let blocks = blocksDirectory(directory)
        try SocketLocation.makeDirectory(blocks, mode: 0o700)
        if let space = DiskSpace(of: blocks), space.totalBytes < smallestDisk {
            throw CommandFailure(
                .cannotCreate,
                "no space for a cache in \(directory): its disk has \(ByteSize.format(space.totalBytes)), and at least "
                    + "\(ByteSize.format(smallestDisk)) are needed; choose another with --cache-dir")
        }
        var tiers: [CoordinatorSettings.Tier] = []
        if let ramSize, ramSize > 0 {
            let path = ramDirectory(directory, uid: uid)
            try SocketLocation.makeDirectory(path, mode: 0o700)
            tiers.append(.init(kind: .ram, path: path, size: ramSize))
        }
        tiers.append(.init(kind: .disk, path: blocks, size: cacheSize ?? defaultSize(blocks)))
        return CoordinatorSettings(
            socket: socket, stateDirectory: stateDirectory(directory, environment: environment, uid: uid),
            blockSize: CoordinatorFile.defaultBlockSize, tiers: tiers, http: nil, logLevel: logLevel)
    }

    package static func blocksDirectory(_ directory: String) -> String { directory + "/blocks" }

    package static func defaultDirectory(environment: [String: String], uid: UInt32) -> String {
        if let cache = environment["XDG_CACHE_HOME"], cache.hasPrefix("/") { return cache + "/larder" }
        if uid == 0 { return "/var/cache/larder" }
        guard let home = FilePaths.homeDirectory(environment: environment) else { return "/var/tmp/larder-\(uid)" }
        return home + "/.cache/larder"
    }

    /// Where the index and the journal of the cache in `directory` are: not beside it, for the disk of a cache may fail
    /// without harm. `$XDG_STATE_HOME/larder/cache-…`, else below /var/lib/larder for root, else below ~/.local/state/larder.
    package static func stateDirectory(_ directory: String, environment: [String: String], uid: UInt32) -> String {
        let name = "cache-" + hash(directory)
        if let state = environment["XDG_STATE_HOME"], state.hasPrefix("/") { return state + "/larder/" + name }
        if uid == 0 { return "/var/lib/larder/" + name }
        guard let home = FilePaths.homeDirectory(environment: environment) else {
            return "/var/tmp/larder-\(uid)-state/\(name)"
        }
        return home + "/.local/state/larder/" + name
    }

    private static func ramDirectory(_ directory: String, uid: UInt32) -> String {
        "/dev/shm/larder-\(uid)-" + hash(directory)
    }

    /// Several caches share a tmpfs and a state directory: each needs a name of its own there.
    private static func hash(_ directory: String) -> String {
        // FNV-1a: the same in every run, unlike Hasher.
        let hash = directory.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }

    /// Four fifths of what is free, within bounds: never more than there is.
    package static func defaultSize(availableBytes: UInt64) -> UInt64 {
        max(1 << 20, min(largestDefaultCache, availableBytes / 5 * 4))
    }

    private static func defaultSize(_ directory: String) -> UInt64 {
        guard let space = DiskSpace(of: directory) else { return smallestDefaultCache }
        return defaultSize(availableBytes: space.availableBytes)
    }
}

/// What statvfs(3) says of a file system.
package struct DiskSpace: Hashable, Sendable {
    package let totalBytes, availableBytes, totalFiles, availableFiles: UInt64

    /// nil when the path cannot be looked at.
    package init?(of path: String) {
        var space = statvfs()
        guard statvfs(path, &space) == 0 else { return nil }
        totalBytes = UInt64(space.f_blocks) * UInt64(space.f_frsize)
        availableBytes = UInt64(space.f_bavail) * UInt64(space.f_frsize)
        totalFiles = UInt64(space.f_files)
        availableFiles = UInt64(space.f_favail)
    }
}
