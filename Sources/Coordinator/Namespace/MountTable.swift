import Platform

/// Which mount points are attached, and where they stand within each other.
package final class MountTable: Sendable {
    private struct State {
        var mounts: [UInt32: MountPoint] = [:]
        /// The inode of each mount point's root.
        var roots: [UInt32: UInt64] = [:]
        /// Directory inode → name → inode of what Larder puts there instead of what the store has.
        var overlays: [UInt64: [ByteString: UInt64]] = [:]
    }
    private let state = Lock(State())

    /// Owner and mode of directories that only lead to mount points.
    package let syntheticDefaults: AttributeDefaults

    package init(syntheticDefaults: AttributeDefaults) { self.syntheticDefaults = syntheticDefaults }

    package func mountPoint(_ number: UInt32) -> MountPoint? { state.withLock { $0.mounts[number] } }
    package func mountPoints() -> [MountPoint] { state.withLock { Array($0.mounts.values) } }
    package func overlay(in directory: UInt64, named name: ByteString) -> UInt64? {
        state.withLock { $0.overlays[directory]?[name] }
    }
    package func overlays(in directory: UInt64) -> [ByteString: UInt64] {
        state.withLock { $0.overlays[directory] ?? [:] }
    }

    /// The directory in which a mount point, or a directory that leads to one, is shown; nil for the root of a volume.
    package func directory(showing inode: UInt64) -> UInt64? {
        state.withLock { $0.overlays.first { $0.value.values.contains(inode) }?.key }
    }

    package func root(of mount: UInt32) -> UInt64? { state.withLock { $0.roots[mount] } }

    func add(_ mount: MountPoint) { state.withLock { $0.mounts[mount.number] = mount } }
    func setRoot(of mount: UInt32, _ inode: UInt64) { state.withLock { $0.roots[mount] = inode } }
    func addOverlay(in directory: UInt64, named name: ByteString, inode: UInt64) {
        state.withLock { $0.overlays[directory, default: [:]][name] = inode }
    }
}
