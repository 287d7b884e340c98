import Platform
import UnderStores

/// What the journal keeps of a staged file. Its bytes are in the file itself.
struct StagedRecord: Hashable, Sendable {
    enum State: Hashable, Sendable {
        /// Nothing of it counts: its first content is not there yet, or its name belongs to another file.
        case void
        /// Somebody writes it, or did when the coordinator ended.
        case writing
        /// close(2) or fsync(2) has returned before it was uploaded. `isDurable`: it was fsynced since.
        case acknowledged(isDurable: Bool)
        /// Somebody else has changed the object: the file is kept for a person.
        case conflict(reason: String, time: FileTime)
    }

    var store: String
    var path: ByteString
    var base: WriteCondition
    var metadata: WrittenMetadata
    var hasNewMetadata: Bool
    /// Its object was about to be removed: where it is gone, nothing has to be there for the next commit.
    var isLeaving = false
    var writeType: WriteType
    var tier: UInt64
    var inode: UInt64
    var state: State
    var created: FileTime
    /// As the file was when the object last had its content; nil when it never had.
    var snapshot: FileSnapshot?
    /// What the object had then, where that is known.
    var content: ContentPrint?
    /// Contents that may have become the object without an answer that says so.
    var attempts: [ContentPrint] = []
    var upload: UploadID?
    /// What the upload was begun with.
    var uploadMetadata: WrittenMetadata?
    /// Why the last upload failed.
    var lastError: String?

    private static let format: UInt8 = 1

    func encoded() -> [UInt8] {
        var writer = RecordWriter()
        writer.integer(Self.format)
        writer.string(store)
        writer.text(path.bytes)
        writer.condition(base)
        writer.metadata(metadata)
        writer.integer((hasNewMetadata ? 1 : 0) | (isLeaving ? 2 : 0) as UInt8)
        writer.integer(writeType.rawValue)
        writer.integer(tier)
        writer.integer(inode)
        switch state {
        case .void: writer.integer(0 as UInt8)
        case .writing: writer.integer(1 as UInt8)
        case .acknowledged(let isDurable): writer.integer(isDurable ? 3 : 2 as UInt8)
        case .conflict(let reason, let time):
            writer.integer(4 as UInt8)
            writer.string(reason)
            writer.time(time)
        }
        writer.time(created)
        writer.optional(snapshot) { $0.snapshot($1) }
        writer.optional(content) { $0.print($1) }
        writer.integer(UInt32(attempts.count))
        for attempt in attempts { writer.print(attempt) }
        writer.optional(upload) { $0.string($1.text) }
        writer.optional(uploadMetadata) { $0.metadata($1) }
        writer.optional(lastError) { $0.string($1) }
        return writer.bytes
    }

    /// nil when the bytes are not a record of this format.
    static func decode(_ bytes: UnsafeRawBufferPointer) -> StagedRecord? {
        var reader = RecordReader(bytes)
        guard reader.integer(UInt8.self) == format, let store = reader.string(), let path = reader.text(),
            let base = reader.condition(), let metadata = reader.metadata(),
            let flags = reader.integer(UInt8.self), flags <= 3,
            let type = reader.integer(UInt8.self).flatMap(WriteType.init(rawValue:)),
            let tier = reader.integer(UInt64.self), let inode = reader.integer(UInt64.self),
            let state = state(&reader), let created = reader.time(),
            let snapshot = reader.optional({ $0.snapshot() }), let content = reader.optional({ $0.print() }),
            let count = reader.integer(UInt32.self)
        else { return nil }
        var attempts: [ContentPrint] = []
        for _ in 0..<count {
            guard let attempt = reader.print() else { return nil }
            attempts.append(attempt)
        }
        guard let upload = reader.optional({ $0.string() }), let begun = reader.optional({ $0.metadata() }),
            let error = reader.optional({ $0.string() }), reader.isAtEnd
        else { return nil }
        return StagedRecord(
            store: store, path: ByteString(path), base: base, metadata: metadata, hasNewMetadata: flags & 1 != 0,
            isLeaving: flags & 2 != 0, writeType: type, tier: tier, inode: inode, state: state, created: created,
            snapshot: snapshot,
            content: content,
            attempts: attempts, upload: upload.map(UploadID.init), uploadMetadata: begun, lastError: error)
    }

    private static func state(_ reader: inout RecordReader) -> State? {
        switch reader.integer(UInt8.self) {
        case 0: .void
        case 1: .writing
        case 2: .acknowledged(isDurable: false)
        case 3: .acknowledged(isDurable: true)
        case 4: reader.string().flatMap { reason in reader.time().map { .conflict(reason: reason, time: $0) } }
        default: nil
        }
    }
}

extension RecordWriter {
    mutating func snapshot(_ value: FileSnapshot) {
        integer(value.size)
        time(value.modified)
        time(value.changed)
        integer(value.isYoung ? 1 : 0 as UInt8)
    }

    mutating func fingerprint(_ value: Fingerprint) {
        integer(value.crc32c)
        integer(value.crc64)
        integer(value.length)
    }

    mutating func print(_ value: ContentPrint) { fingerprint(value.summary); integer(value.size) }
}

extension RecordReader {
    mutating func snapshot() -> FileSnapshot? {
        guard let size = integer(UInt64.self), let modified = time(), let changed = time(),
            let young = integer(UInt8.self), young <= 1
        else { return nil }
        return FileSnapshot(size: size, modified: modified, changed: changed, isYoung: young == 1)
    }

    mutating func fingerprint() -> Fingerprint? {
        guard let crc32c = integer(UInt32.self), let crc64 = integer(UInt64.self), let length = integer(UInt64.self)
        else { return nil }
        return Fingerprint(crc32c: crc32c, crc64: crc64, length: length)
    }

    mutating func print() -> ContentPrint? {
        guard let summary = fingerprint(), let size = integer(UInt64.self) else { return nil }
        return ContentPrint(size: size, summary: summary)
    }
}
