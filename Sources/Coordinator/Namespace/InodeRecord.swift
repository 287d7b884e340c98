import Glibc
import Platform
import UnderStores

/// What the metadata index keeps of one inode: a name in a directory, and what its store said of it.
///
/// An inode of a cached store stands for one version of an object: when the object is replaced, its name gets a new inode
/// number, as a file replaced by rename(2) would. So the kernel's pages of an inode never mix versions.
package struct InodeRecord: Hashable, Sendable {
    /// Which mount point of which volume the inode belongs to; 0 for a directory that only leads to a mount point.
    package var mount: UInt32
    /// The directory that holds the name; 0 for the root of a mount point.
    package var parent: UInt64
    package var name: ByteString
    package var attributes: ObjectAttributes
    /// CLOCK_MONOTONIC nanoseconds at which the attributes must be asked for again. The index does not outlive a boot.
    package var expiry: UInt64
    /// For a directory: until when the index holds all its names; 0 when it does not.
    package var listedUntil: UInt64 = 0
    /// For a directory: the number of its last listing.
    package var listing: UInt32 = 0
    /// CLOCK_MONOTONIC nanoseconds of the last change that Larder saw; tells whether kernel pages are still right.
    package var changedAt: UInt64 = 0
    /// The staged file that holds what the store does not have yet, and which no store's answer replaces; 0 for none.
    package var staged: UInt64 = 0
    /// Whether the inode has had other bytes before: then a kernel's pages of it are right only if they are younger.
    package var isRewritten = false
    /// For a directory of a flat store: whether an object stands for it, so that it outlives its last entry.
    package var hasMarker = false

    package init(mount: UInt32, parent: UInt64, name: ByteString, attributes: ObjectAttributes, expiry: UInt64) {
        self.mount = mount
        self.parent = parent
        self.name = name
        self.attributes = attributes
        self.expiry = expiry
    }
}

/// A record in the index: little-endian fields in a fixed order, after a format byte. Decoding refuses what encoding
/// cannot have written.
extension InodeRecord {
    private static let format: UInt8 = 3

    package func encoded() -> [UInt8] {
        var writer = RecordWriter()
        writer.integer(Self.format)
        writer.integer(mount)
        writer.integer(parent)
        writer.integer(expiry)
        writer.integer(listedUntil)
        writer.integer(listing)
        writer.integer(changedAt)
        writer.integer(staged)
        writer.integer((isRewritten ? 1 : 0) | (hasMarker ? 2 : 0) as UInt8)
        writer.bytes(name)
        writer.integer(attributes.kind.rawValue)
        writer.integer(attributes.isPartial ? 1 as UInt8 : 0)
        writer.integer(attributes.size)
        writer.integer(attributes.links)
        writer.time(attributes.modified)
        writer.optional(attributes.version) { $0.bytes($1.bytes) }
        writer.optional(attributes.accessed) { $0.time($1) }
        writer.optional(attributes.changed) { $0.time($1) }
        writer.optional(attributes.permissions) { $0.integer($1) }
        writer.optional(attributes.specialMode) { $0.integer($1) }
        writer.optional(attributes.device) { $0.integer($1) }
        writer.optional(attributes.uid) { $0.integer($1) }
        writer.optional(attributes.gid) { $0.integer($1) }
        writer.optional(attributes.blocks) { $0.integer($1) }
        return writer.bytes
    }

    /// nil when the bytes are not a record of this format.
    package init?(encoded bytes: UnsafeRawBufferPointer) {
        var reader = RecordReader(bytes)
        guard reader.integer(UInt8.self) == Self.format,
            let mount = reader.integer(UInt32.self), let parent = reader.integer(UInt64.self),
            let expiry = reader.integer(UInt64.self), let listedUntil = reader.integer(UInt64.self),
            let listing = reader.integer(UInt32.self), let changedAt = reader.integer(UInt64.self),
            let staged = reader.integer(UInt64.self), let flags = reader.integer(UInt8.self), flags <= 3,
            let name = reader.bytes(), let kind = reader.integer(UInt8.self).flatMap(ObjectKind.init(rawValue:)),
            let partial = reader.integer(UInt8.self), partial <= 1, let size = reader.integer(UInt64.self),
            let links = reader.integer(UInt32.self), let modified = reader.time(),
            let version = reader.optional({ $0.bytes() }), let accessed = reader.optional({ $0.time() }),
            let changed = reader.optional({ $0.time() }),
            let permissions = reader.optional({ $0.integer(UInt32.self) }),
            let specialMode = reader.optional({ $0.integer(UInt32.self) }),
            let device = reader.optional({ $0.integer(UInt32.self) }),
            let uid = reader.optional({ $0.integer(UInt32.self) }),
            let gid = reader.optional({ $0.integer(UInt32.self) }),
            let blocks = reader.optional({ $0.integer(UInt64.self) }), reader.isAtEnd
        else { return nil }
        self.init(
            mount: mount, parent: parent, name: name,
            attributes: ObjectAttributes(
                kind: kind, size: size, version: version.map(ObjectVersion.init), modified: modified,
                accessed: accessed, changed: changed, permissions: permissions, specialMode: specialMode,
                device: device,
                uid: uid, gid: gid, links: links, blocks: blocks, isPartial: partial == 1),
            expiry: expiry)
        self.listedUntil = listedUntil
        self.listing = listing
        self.changedAt = changedAt
        self.staged = staged
        isRewritten = flags & 1 != 0
        hasMarker = flags & 2 != 0
    }
}
