import Platform

/// A store whose objects are replaced as a whole: one PUT or one completed multipart upload is one commit. Larder stages
/// a file on the node, and calls these to make it the object.
///
/// Paths are as in `UnderStore`. Every call may be made from any task, many at once, and is repeated by the store within
/// its own retry budget; a repeated change that had happened already is not an error. Every error is a `StoreError`.
/// Attributes that a call returns are those that `lookup` would give.
///
/// A condition that the store does not enforce (`conditions`) is looked at before the change, and after it the object must
/// be ours. So a call reports each race that it loses, but two writers that both pass the first look within the same
/// moment overwrite each other, and only the last one is told of success. `put` leaves the look afterwards to its caller
/// (`look`), who need not wait for it. The first conditional change finds out what is enforced.
package protocol ObjectWriting: UnderStore {
    var limits: ObjectLimits { get }

    /// What the store enforces of `WriteCondition`, as far as it is known: by its kind, or found out by `probe`.
    var conditions: EnforcedConditions { get }

    /// Whether it knows damaged bytes by their MD5 alone, as far as is known: then who reads what is to be sent computes
    /// that on the way (`UploadBody.md5`).
    var wantsMD5: Bool { get }
    /// What the store does by itself, for people; empty as long as it is not known.
    var requirements: [StoreRequirement] { get }

    /// Finds out what the store enforces, with objects of its own under `directory` that it removes again.
    /// Throws when the store cannot be written.
    func probeConditions(in directory: ByteString) async throws(StoreError) -> EnforcedConditions

    /// What is stored beside the bytes of the object at `path`, to be changed and given back by `copy`; with a slash at
    /// its end, of the directory's marker. nil when there is no such object.
    func metadata(
        of path: ByteString
    ) async throws(StoreError) -> (metadata: WrittenMetadata, attributes: ObjectAttributes)?

    /// Creates or replaces the object with all bytes of `body`, which are checked by the store on arrival.
    /// Throws `.versionChanged` when `condition` does not hold; nothing is changed then.
    ///
    /// - Parameter look: what `look` has seen at this path a moment ago, so that it need not be asked again; nil: it is,
    ///   where the store does not enforce the condition.
    func put(
        _ path: ByteString, _ body: UploadBody, _ metadata: WrittenMetadata, if condition: WriteCondition,
        seen look: ConditionLook?
    ) async throws(StoreError) -> ObjectAttributes

    /// Looks whether `condition` holds: before a `put` that is about to come, or afterwards whether what it has made is
    /// still there. Throws `.versionChanged` when another object is there, `.notFound` when none is.
    func look(_ path: ByteString, for condition: WriteCondition) async throws(StoreError) -> ConditionLook

    /// Starts an upload in parts; the object does not change before `complete`.
    func beginUpload(_ path: ByteString, _ metadata: WrittenMetadata) async throws(StoreError) -> UploadID

    /// Uploads a part (1…10 000; parts but the last have at least `limits.smallestPart` bytes). A number that is sent
    /// again replaces the earlier part.
    func uploadPart(
        _ upload: UploadID, of path: ByteString, number: Int, _ body: UploadBody
    ) async throws(StoreError) -> UploadedPart

    /// Makes a part of a range of an object of this store, without moving the bytes through this node.
    /// Throws `.versionChanged` unless `source` has version `expecting`; `.unsupported`.
    func copyPart(
        _ upload: UploadID, of path: ByteString, number: Int, from source: ByteString, range: Range<UInt64>,
        expecting version: ObjectVersion?
    ) async throws(StoreError) -> UploadedPart

    /// Makes the object of the parts, in ascending order. Throws `.versionChanged` when `condition` does not hold; the
    /// upload is still there then. Throws `.notFound` when the upload is gone.
    func completeUpload(
        _ upload: UploadID, of path: ByteString, parts: [UploadedPart], size: UInt64, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes

    /// Drops an upload and its parts; one that is gone already is no error.
    func abortUpload(_ upload: UploadID, of path: ByteString) async throws(StoreError)

    /// Uploads under way below `directory`, oldest first, with the time of their start.
    func uploads(under directory: ByteString) async throws(StoreError) -> [PendingUpload]

    /// Uploads under way of the object at `path`, oldest first; also where a store lists them by whole keys only.
    func uploads(of path: ByteString) async throws(StoreError) -> [PendingUpload]

    /// Copies an object within the store, of any size, without moving the bytes through this node.
    ///
    /// - Parameter metadata: nil keeps the source's. With `source == path` this changes the metadata alone.
    /// - Throws: `.notFound`; `.versionChanged` when the source no longer has version `expecting` or `condition` (on
    ///   the destination) does not hold.
    func copy(
        _ source: ByteString, expecting version: ObjectVersion?, to path: ByteString, metadata: WrittenMetadata?,
        if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes

    /// Removes an object; one that is gone already is no error. Throws `.versionChanged` when `condition` does not hold
    /// (checked by lookup where the store has no conditional delete).
    func remove(_ path: ByteString, if condition: WriteCondition) async throws(StoreError)

    /// Removes many objects, in as few requests as the store allows; also by keys that `keys(under:)` gave, markers
    /// included. Returns those that could not be removed, and why. On stores whose directories are real, one may show
    /// itself as a marker once its entries are gone: list again until nothing is left.
    func removeAll(_ paths: [ByteString]) async throws(StoreError) -> [(path: ByteString, error: StoreError)]

    /// Makes `path` a directory that exists without entries (on S3 an empty object `path/`), or changes the metadata of
    /// one that exists. Throws `.unsupported` where an empty directory cannot be kept: there one exists with its first
    /// entry.
    func makeDirectory(_ path: ByteString, _ metadata: WrittenMetadata) async throws(StoreError) -> ObjectAttributes

    /// Removes what `makeDirectory` made. The caller has seen that the directory has no entries.
    func removeDirectory(_ path: ByteString) async throws(StoreError)

    /// Creates or replaces a symbolic link, in the form that s3fs reads as well.
    func makeLink(
        _ path: ByteString, target: ByteString, _ metadata: WrittenMetadata, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes

    /// Every key below the directory `path`, markers of directories included (they end in a slash), in the store's order
    /// and as it is now; for renames and removals of whole trees. Paths are relative to the store's root.
    func keys(under path: ByteString) -> any KeyListing

    /// Copies one key that `keys(under:)` gave, markers included, with all its metadata.
    func copyKey(_ key: ByteString, to destination: ByteString) async throws(StoreError)
}

extension ObjectWriting {
    /// `put` without an earlier look.
    package func put(
        _ path: ByteString, _ body: UploadBody, _ metadata: WrittenMetadata, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes { try await put(path, body, metadata, if: condition, seen: nil) }
}

/// A listing of keys, page by page, asked for by one task at a time.
package protocol KeyListing: AnyObject, Sendable {
    /// The next keys with their sizes; nil after the last.
    func nextPage() async throws(StoreError) -> [(key: ByteString, size: UInt64, version: ObjectVersion?)]?
}

/// What must hold of the object that is about to be replaced or removed.
package enum WriteCondition: Hashable, Sendable {
    case none
    case absent
    case version(ObjectVersion)
}

extension WriteCondition {
    /// Whether it holds when this version is there; nil: nothing is.
    func holds(of found: ObjectVersion?) -> Bool {
        switch self {
        case .none: true
        case .absent: found == nil
        case .version(let version): found == version
        }
    }
}

/// That a condition was seen to hold.
package struct ConditionLook: Hashable, Sendable {
    package let condition: WriteCondition
    /// CLOCK_MONOTONIC nanoseconds before the store was asked.
    package let asked: UInt64

    /// How old a look may be that a `put` relies on. It makes the window of somebody else's change longer by so much at
    /// most; a small file is closed sooner after its creation, a larger one is asked for again.
    package static let validity: Duration = .seconds(1)

    package init(_ condition: WriteCondition, asked: UInt64) {
        self.condition = condition
        self.asked = asked
    }

    /// Whether a `put` under `condition` may rely on it at `now` (CLOCK_MONOTONIC nanoseconds).
    package func covers(_ condition: WriteCondition, at now: UInt64) -> Bool {
        self.condition == condition && .nanoseconds(now - min(asked, now)) <= Self.validity
    }
}

/// Which conditions a store checks in the same step as the change. What it does not, Larder checks by lookups before and
/// after, which leaves a window.
package struct EnforcedConditions: Hashable, Sendable {
    package var putAbsent, putVersion, completeAbsent, completeVersion: Bool
    /// False until `probeConditions` has run; the other fields are false then.
    package var isKnown: Bool
    package init(
        putAbsent: Bool = false, putVersion: Bool = false, completeAbsent: Bool = false,
        completeVersion: Bool = false, isKnown: Bool = false
    ) {
        self.putAbsent = putAbsent
        self.putVersion = putVersion
        self.completeAbsent = completeAbsent
        self.completeVersion = completeVersion
        self.isKnown = isKnown
    }

    /// Whether a condition of a change needs no looks: of a PUT, or of the completion of an upload.
    package func enforce(_ condition: WriteCondition, byComplete: Bool = false) -> Bool {
        switch condition {
        case .none: true
        case .absent: byComplete ? completeAbsent : putAbsent
        case .version: byComplete ? completeVersion : putVersion
        }
    }
}

/// Bounds of what a store takes, in bytes.
package struct ObjectLimits: Hashable, Sendable {
    package var longestKey = 1024
    package var largestPut: UInt64 = 5 << 30
    package var smallestPart: UInt64 = 5 << 20
    package var largestPart: UInt64 = 5 << 30
    package var parts = 10_000
    package var largestObject: UInt64 = 5 << 40
    package init() {}
}

/// A range of an open file to be sent. The bytes are read with pread(2) while they are sent, again for each repetition;
/// when they change meanwhile, the checksum makes the store refuse them.
package struct UploadBody: Sendable {
    package let file: Descriptor
    package let range: Range<UInt64>
    /// CRC32C of the range when the caller has it; else the store reads the range once more to compute it.
    package let checksum: UInt32?
    /// The same of the MD5, which only some stores want (`wantsMD5`). 16 bytes.
    package let md5: [UInt8]?
    package init(file: Descriptor, range: Range<UInt64>, checksum: UInt32? = nil, md5: [UInt8]? = nil) {
        self.file = file
        self.range = range
        self.checksum = checksum
        self.md5 = md5
    }
}

/// What is stored beside the bytes of an object, in the form that s3fs and rclone read as well.
package struct WrittenMetadata: Hashable, Sendable {
    /// Whole st_mode, with the file type; nil leaves it out.
    package var mode: UInt32?
    package var uid, gid: UInt32?
    package var modified: FileTime?
    package var accessed: FileTime?
    package var changed: FileTime?
    /// User xattrs by name without `user.`; together with the rest at most 2 KiB on S3 (`.invalid` beyond).
    package var extendedAttributes: [ByteString: ByteString] = [:]
    /// nil: by the name's suffix.
    package var contentType: String?
    /// User metadata and system headers that another program stored with the object and that must survive a change
    /// (Cache-Control, Content-Encoding, x-amz-meta-…): names in lower case.
    package var preserved: [String: String] = [:]
    package init() {}
}

package struct UploadID: Hashable, Sendable {
    package let text: String
    package init(_ text: String) { self.text = text }

    /// Of an upload whose name was not heard.
    package static let unknown = UploadID("")
}

package struct UploadedPart: Hashable, Sendable {
    package let number: Int
    package let tag: String
    package let size: UInt64
    /// CRC32C of its bytes; nil of a copied part that the store did not tell.
    package let checksum: UInt32?
    package init(number: Int, tag: String, size: UInt64, checksum: UInt32?) {
        self.number = number
        self.tag = tag
        self.size = size
        self.checksum = checksum
    }
}

package struct PendingUpload: Hashable, Sendable {
    package let path: ByteString
    package let upload: UploadID
    package let started: FileTime
    package init(path: ByteString, upload: UploadID, started: FileTime) {
        self.path = path
        self.upload = upload
        self.started = started
    }
}
