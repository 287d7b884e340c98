import LMDB
import Platform
import UnderStores

/// A rename that takes more than one step, until the last is done.
package struct RenameRecord: Hashable, Sendable {
    package enum Phase: UInt8, Hashable, Sendable {
        /// The destination is being made; the source is whole.
        case copying = 0
        /// The destination is whole; the source is being removed.
        case removing = 1
    }

    package var number: UInt64
    package var store: StoreIdentity
    package var source, destination: ByteString
    /// Of a whole directory.
    package var isTree: Bool
    package var sourceVersion: ObjectVersion?
    package var phase: Phase
    /// What must hold of the destination before it is made.
    package var condition: WriteCondition
    /// Who asked for it (`Journal.note`), to be told that it is done however often it asks again; nil when nobody is told.
    package var client: ByteString?
    package var operation: UInt64

    package init(
        number: UInt64, store: StoreIdentity, source: ByteString, destination: ByteString, isTree: Bool,
        sourceVersion: ObjectVersion?, phase: Phase, condition: WriteCondition, client: ByteString? = nil,
        operation: UInt64 = 0
    ) {
        self.number = number
        self.store = store
        self.source = source
        self.destination = destination
        self.isTree = isTree
        self.sourceVersion = sourceVersion
        self.phase = phase
        self.condition = condition
        self.client = client
        self.operation = operation
    }
}

extension Journal {
    private static let renameFormat: UInt8 = 2

    /// Adds or replaces the rename of this number (`nextNumber`). Survives a crash of the process at once, of the machine
    /// after `synchronize`.
    package func put(_ rename: RenameRecord) throws(LMDBError) {
        try update { (transaction) throws(LMDBError) in try put(rename, transaction) }
    }

    func put(_ rename: RenameRecord, _ transaction: LMDBTransaction) throws(LMDBError) {
        var writer = RecordWriter()
        writer.integer(Self.renameFormat)
        writer.string(rename.store.text)
        writer.text(rename.source.bytes)
        writer.text(rename.destination.bytes)
        writer.integer(rename.isTree ? 1 : 0 as UInt8)
        writer.optional(rename.sourceVersion) { $0.text($1.bytes.bytes) }
        writer.integer(rename.phase.rawValue)
        writer.condition(rename.condition)
        writer.optional(rename.client) { $0.text($1.bytes) }
        writer.integer(rename.operation)
        try transaction.put(renames, Self.key(rename.number), writer.bytes)
    }

    package func removeRename(_ number: UInt64) throws(LMDBError) {
        try update { (transaction) throws(LMDBError) in try removeRename(number, transaction) }
    }

    func removeRename(_ number: UInt64, _ transaction: LMDBTransaction) throws(LMDBError) {
        try transaction.remove(renames, Self.key(number))
    }

    /// Renames that are not done, oldest first.
    package func unfinishedRenames() throws(LMDBError) -> [RenameRecord] {
        try records(of: renames, named: "rename") { number, bytes in
            var reader = RecordReader(bytes)
            guard reader.integer(UInt8.self) == Self.renameFormat, let store = reader.string(),
                let source = reader.text(), let destination = reader.text(),
                let isTree = reader.integer(UInt8.self), isTree <= 1, let version = reader.optional({ $0.text() }),
                let phase = reader.integer(UInt8.self).flatMap(RenameRecord.Phase.init(rawValue:)),
                let condition = reader.condition(), let client = reader.optional({ $0.text() }),
                let operation = reader.integer(UInt64.self), reader.isAtEnd
            else { return nil }
            return RenameRecord(
                number: number, store: StoreIdentity(store), source: ByteString(source),
                destination: ByteString(destination), isTree: isTree == 1,
                sourceVersion: version.map { ObjectVersion(ByteString($0)) }, phase: phase, condition: condition,
                client: client.map { ByteString($0) }, operation: operation)
        }
    }
}
