import Coordination
import Glibc
import Platform
import UnderStores

/// One mount point of a volume: a store, and how its objects appear.
package struct MountPoint: Sendable {
    package enum CacheMode: String, Sendable {
        /// Blocks of remote stores are cached; files of this node are lent as they are.
        case auto
        /// Everything is cached: for a local directory that is itself remote (NFS).
        case always
        /// Nothing is cached.
        case never
    }

    /// Identifies it in the metadata index over restarts.
    package let number: UInt32
    /// Where it stands in the namespace; empty for the volume's root.
    package let path: ByteString
    /// For people: the source as it was given.
    package let source: String
    package let store: any UnderStore
    package let cacheMode: CacheMode
    /// How long attributes and listings are believed, in nanoseconds. 0: asked for again at every use.
    package let metadataTTL: UInt64
    /// How long a missing name is believed to be missing, in nanoseconds.
    package let negativeTTL: UInt64
    package let defaults: AttributeDefaults
    /// Whether objects are files of this node, lent as they are.
    package let lendsSource: Bool
    /// Nothing below may be changed through this mount point.
    package let isReadOnly: Bool
    /// What close(2) waits for, by path within the store: the longest prefix counts.
    package let writeTypes: [(prefix: ByteString, type: WriteType)]

    /// What tells whether an inode may stay when an object changed.
    func identity(of attributes: ObjectAttributes) -> ByteString {
        guard let version = attributes.version else { return "" }
        return lendsSource ? store.fileIdentity(of: version) : version.bytes
    }
}

/// What stands in for attributes that a store does not know.
package struct AttributeDefaults: Hashable, Sendable {
    package var uid, gid: UInt32
    /// Permission bits.
    package var fileMode, directoryMode: UInt32

    package init(uid: UInt32, gid: UInt32, fileMode: UInt32 = 0o644, directoryMode: UInt32 = 0o755) {
        self.uid = uid
        self.gid = gid
        self.fileMode = fileMode
        self.directoryMode = directoryMode
    }
}

extension WireAttributes {
    /// What stat(2) will show.
    /// - Parameter now: CLOCK_MONOTONIC nanoseconds.
    init(_ inode: UInt64, _ record: InodeRecord, defaults: AttributeDefaults, now: UInt64) {
        self.init()
        let attributes = record.attributes
        self.inode = inode
        mode =
            switch attributes.kind {
            case .file: S_IFREG | (attributes.permissions ?? defaults.fileMode)
            case .directory: S_IFDIR | (attributes.permissions ?? defaults.directoryMode)
            case .symbolicLink: S_IFLNK | 0o777
            case .special: attributes.specialMode ?? S_IFREG
            }
        size = attributes.size
        uid = attributes.uid ?? defaults.uid
        gid = attributes.gid ?? defaults.gid
        links = attributes.links
        device = attributes.device ?? 0
        blocks = attributes.blocks ?? (attributes.size + 511) / 512
        modifiedSeconds = attributes.modified.seconds
        modifiedNanoseconds = attributes.modified.nanoseconds
        let accessed = attributes.accessed ?? attributes.modified
        accessedSeconds = accessed.seconds
        accessedNanoseconds = accessed.nanoseconds
        let changed = attributes.changed ?? attributes.modified
        changedSeconds = changed.seconds
        changedNanoseconds = changed.nanoseconds
        ttlMilliseconds = Self.milliseconds(until: record.expiry, now: now)
    }

    /// What is left until `expiry`, in the protocol's milliseconds; at most a day.
    static func milliseconds(until expiry: UInt64, now: UInt64) -> UInt32 {
        expiry > now ? UInt32(min((expiry - now) / 1_000_000, 86_400_000)) : 0
    }
}
