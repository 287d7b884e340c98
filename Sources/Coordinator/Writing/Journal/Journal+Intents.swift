import LMDB
import Platform
import UnderStores

/// A change that a client has asked for and that is about to be made. With it a successor can tell what the change itself
/// has done from what was there before it, when the client asks again for what a kill left without an answer.
struct ChangeIntent: Hashable, Sendable {
    let store: StoreIdentity
    /// The names that it changes; of a rename the old one and the new one.
    let paths: [ByteString]
    /// The inode number of what the first name stands for; 0 for nothing.
    var inode: UInt64 = 0
    /// Of the same.
    var version: ObjectVersion?
    /// What the object gets beside its bytes, where nothing else is changed.
    var metadata: WrittenMetadata?
}

extension Journal {
    private static let intentFormat: UInt8 = 1

    /// Notes a change before it is made, until `note` has its answer.
    func put(_ intent: ChangeIntent, of key: OperationLog.Key) throws(LMDBError) {
        var writer = RecordWriter()
        writer.integer(Self.intentFormat)
        writer.string(intent.store.text)
        writer.integer(UInt8(intent.paths.count))
        for path in intent.paths { writer.text(path.bytes) }
        writer.integer(intent.inode)
        writer.optional(intent.version) { $0.text($1.bytes.bytes) }
        writer.optional(intent.metadata) { $0.metadata($1) }
        try update { (transaction) throws(LMDBError) in
            try transaction.put(intents, Self.key(key.client, key.operation), writer.bytes)
        }
    }

    /// What was noted of a change that has no answer; nil when nothing was, or it is damaged.
    func intent(of key: OperationLog.Key) throws(LMDBError) -> ChangeIntent? {
        try read { (transaction) throws(LMDBError) in
            try transaction.get(intents, Self.key(key.client, key.operation)).flatMap(Self.intent)
        }
    }

    /// A change was refused, and nobody is told of it by an answer that is kept.
    func removeIntent(of key: OperationLog.Key) throws(LMDBError) {
        guard try intent(of: key) != nil else { return }
        try update { (transaction) throws(LMDBError) in
            try transaction.remove(intents, Self.key(key.client, key.operation))
        }
    }

    /// Every change without an answer.
    func unansweredIntents() throws(LMDBError) -> [ChangeIntent] {
        try read { (transaction) throws(LMDBError) in
            var found: [ChangeIntent] = []
            try transaction.scan(intents, from: []) { _, value in
                if let intent = Self.intent(value) { found.append(intent) }
                return true
            }
            return found
        }
    }

    private static func intent(_ bytes: UnsafeRawBufferPointer) -> ChangeIntent? {
        var reader = RecordReader(bytes)
        guard reader.integer(UInt8.self) == intentFormat, let store = reader.string(),
            let count = reader.integer(UInt8.self)
        else { return nil }
        var paths: [ByteString] = []
        for _ in 0..<count {
            guard let path = reader.text() else { return nil }
            paths.append(ByteString(path))
        }
        guard let inode = reader.integer(UInt64.self), let version = reader.optional({ $0.text() }),
            let metadata = reader.optional({ $0.metadata() }), reader.isAtEnd
        else { return nil }
        return ChangeIntent(
            store: StoreIdentity(store), paths: paths, inode: inode,
            version: version.map { ObjectVersion(ByteString($0)) }, metadata: metadata)
    }
}
