import Platform

/// The authoritative store behind a mount point. The contract that `StoreContract` tests on every store:
///
/// - Paths are relative to the store's root, without leading or trailing slash; the root is the empty path.
/// - `lookup` and `list` agree: what a listing shows, a lookup finds, with the same kind, size and version.
/// - A version names bytes: two reads that succeed while expecting one version see the same bytes.
/// - Every call may be made from any task, many at once; cancelling the task ends the call soon.
/// - Every error is a `StoreError`; transient failures have been retried within the store's own budget before.
package protocol UnderStore: Sendable {
    /// Equal identities mean the same objects under the same paths: scheme, endpoint, bucket and prefix, never a
    /// credential. Cached blocks are keyed by it.
    var identity: StoreIdentity { get }

    /// The object or directory at `path`; nil when there is none. On a flat store a directory exists while some key lies
    /// under it or a marker object stands for it. A directory wins over an object of the same name.
    func lookup(_ path: ByteString) async throws(StoreError) -> ObjectAttributes?

    /// Starts a listing of the directory at `path`. Nothing is requested before the first page is asked for.
    func list(_ path: ByteString) -> any DirectoryListing

    /// Reads `range` (not empty, within the object) and hands the bytes to `sink` in ascending order, each byte once.
    ///
    /// With `expecting`, throws `.versionChanged` unless the object still has that version; no byte of another version
    /// reaches the sink. Throws what the sink throws as `.sink`.
    /// Returns only after the whole range was delivered: a short or over-long body is an error.
    func read(
        _ path: ByteString, range: Range<UInt64>, expecting version: ObjectVersion?, into sink: any ReadSink
    ) async throws(StoreError)

    /// The target of a symbolic link.
    func readLink(_ path: ByteString) async throws(StoreError) -> ByteString

    /// A read-only descriptor of the source file itself, on stores whose objects are files of this node; nil elsewhere.
    /// Checked to be the version `expecting` at the time of opening.
    func openSource(_ path: ByteString, expecting version: ObjectVersion?) async throws(StoreError) -> Descriptor?

    /// Space for statfs(2); nil where the store has no bound.
    func space() async throws(StoreError) -> StoreSpace?

    /// The part of a version that stays while one file is written in place; the whole version where objects are replaced
    /// as a whole.
    func fileIdentity(of version: ObjectVersion) -> ByteString

    /// What the store was asked and has answered; zeros where nothing is counted.
    var counters: StoreCounters { get }

    /// The store as one whose objects are replaced as a whole, or as one whose files are changed in place; both nil where
    /// it cannot be written.
    var objectWriting: (any ObjectWriting)? { get }
    var fileWriting: (any FileWriting)? { get }
}

extension UnderStore {
    package func readLink(_ path: ByteString) async throws(StoreError) -> ByteString {
        throw StoreError(.unsupported, "\(identity) has no symbolic links")
    }
    package func openSource(
        _ path: ByteString, expecting version: ObjectVersion?
    ) async throws(StoreError) -> Descriptor? { nil }
    package func space() async throws(StoreError) -> StoreSpace? { nil }
    package func fileIdentity(of version: ObjectVersion) -> ByteString { version.bytes }
    package var counters: StoreCounters { StoreCounters() }
    package var objectWriting: (any ObjectWriting)? { nil }
    package var fileWriting: (any FileWriting)? { nil }
}

/// The canonical text that tells stores apart, e.g. `s3://bucket@https://s3.eu-west-1.amazonaws.com` or `file:///data`.
package struct StoreIdentity: Hashable, Sendable, CustomStringConvertible {
    package let text: String
    package init(_ text: String) { self.text = text }
    package var description: String { text }
}

/// What names the bytes of an object: its ETag, version id, or inode with modification time and size.
package struct ObjectVersion: Hashable, Sendable, CustomStringConvertible {
    package let bytes: ByteString
    package init(_ bytes: ByteString) { self.bytes = bytes }
    package var description: String { bytes.description }
}

package enum ObjectKind: UInt8, Hashable, Sendable {
    case file = 0
    case directory = 1
    case symbolicLink = 2
    /// A pipe, socket or device of a local directory: shown, never read through Larder.
    case special = 3
}

/// What a store knows of one object or directory. nil means the store does not say and the mount's default applies.
package struct ObjectAttributes: Hashable, Sendable {
    package var kind: ObjectKind
    /// Bytes; of a symbolic link, the length of its target; 0 for a directory of a flat store.
    package var size: UInt64
    /// nil for a directory.
    package var version: ObjectVersion?
    package var modified: FileTime
    package var accessed: FileTime?
    package var changed: FileTime?
    /// Permission bits (07777) only.
    package var permissions: UInt32?
    /// The whole st_mode for `.special`.
    package var specialMode: UInt32?
    /// st_rdev of a device, as Linux encodes it in 32 bits (`new_encode_dev` in include/linux/kdev_t.h).
    package var device: UInt32?
    package var uid: UInt32?
    package var gid: UInt32?
    package var links: UInt32
    /// Allocated 512-byte units.
    package var blocks: UInt64?
    /// True when a lookup could tell more than this listing did (S3 user metadata: permissions, owner).
    package var isPartial: Bool

    package init(
        kind: ObjectKind, size: UInt64 = 0, version: ObjectVersion? = nil, modified: FileTime,
        accessed: FileTime? = nil, changed: FileTime? = nil, permissions: UInt32? = nil, specialMode: UInt32? = nil,
        device: UInt32? = nil, uid: UInt32? = nil, gid: UInt32? = nil, links: UInt32 = 1, blocks: UInt64? = nil,
        isPartial: Bool = false
    ) {
        self.kind = kind
        self.size = size
        self.version = version
        self.modified = modified
        self.accessed = accessed
        self.changed = changed
        self.permissions = permissions
        self.specialMode = specialMode
        self.device = device
        self.uid = uid
        self.gid = gid
        self.links = links
        self.blocks = blocks
        self.isPartial = isPartial
    }
}

/// One name in a directory.
package struct DirectoryEntry: Hashable, Sendable {
    package let name: ByteString
    package let attributes: ObjectAttributes
    package init(name: ByteString, attributes: ObjectAttributes) {
        self.name = name
        self.attributes = attributes
    }
}

/// A part of a listing. Each name of a directory is in exactly one page of one listing.
package struct ListingPage: Sendable {
    package var entries: [DirectoryEntry]
    /// Keys that POSIX cannot name (empty part, `.`, `..`, NUL, over 255 bytes): counted, never shown.
    package var unnameable: Int
    /// Objects hidden by a directory of the same name.
    package var shadowed: [ByteString]
    package init(entries: [DirectoryEntry], unnameable: Int = 0, shadowed: [ByteString] = []) {
        self.entries = entries
        self.unnameable = unnameable
        self.shadowed = shadowed
    }
}

/// A listing under way, asked for page by page by one task at a time; memory is bounded by a page.
package protocol DirectoryListing: AnyObject, Sendable {
    /// The next page, which may have no entries; nil after the last.
    /// Throws `.notFound` when the directory does not exist, `.notDirectory` when it is something else.
    func nextPage() async throws(StoreError) -> ListingPage?
}

/// Receives the bytes of a read. Called by one thread at a time, in ascending order without gaps; must not wait.
package protocol ReadSink: Sendable {
    /// - Parameter offset: of the first byte, counted from the start of the object.
    func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws
}

package struct StoreSpace: Hashable, Sendable {
    package var totalBytes, freeBytes, availableBytes, files, freeFiles: UInt64
    package init(
        totalBytes: UInt64, freeBytes: UInt64, availableBytes: UInt64, files: UInt64, freeFiles: UInt64
    ) {
        self.totalBytes = totalBytes
        self.freeBytes = freeBytes
        self.availableBytes = availableBytes
        self.files = files
        self.freeFiles = freeFiles
    }
}
