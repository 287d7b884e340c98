import Platform
import UnderStores

/// What happens to written data, and what close(2) and fsync(2) wait for.
package enum WriteType: UInt8, Hashable, Sendable, CaseIterable {
    /// They return when the object is committed; the data is kept in the cache.
    case cacheThrough = 0
    /// They return when the object is committed; the data is not kept.
    case through = 1
    /// They return when the data is safe on the node, which uploads it later.
    case asyncThrough = 2
    /// The data stays on the node.
    case mustCache = 3

    /// By its name in configurations; empty means `cacheThrough`; nil for any other text.
    package init?(name: String) {
        switch name {
        case "", "cacheThrough": self = .cacheThrough
        case "through": self = .through
        case "asyncThrough": self = .asyncThrough
        case "mustCache": self = .mustCache
        default: return nil
        }
    }

    package var name: String {
        switch self {
        case .cacheThrough: "cacheThrough"
        case .through: "through"
        case .asyncThrough: "asyncThrough"
        case .mustCache: "mustCache"
        }
    }

    /// Whether the node's copy is, for a while or for ever, the only one of what was acknowledged.
    var acknowledgesOnNode: Bool { self == .asyncThrough || self == .mustCache }
}

/// What a staged file is to become.
package struct StagedTarget: Sendable {
    package var store: any ObjectWriting
    /// Within the store.
    package var path: ByteString
    /// What must still be at `path` when it is committed.
    package var base: WriteCondition
    /// Written beside the bytes. `modified` is applied to the staged file, which is the truth of it from then on.
    package var metadata: WrittenMetadata
    package var writeType: WriteType
    /// For the caller: kept in the journal.
    package var inode: UInt64

    package init(
        store: any ObjectWriting, path: ByteString, base: WriteCondition, metadata: WrittenMetadata,
        writeType: WriteType, inode: UInt64
    ) {
        self.store = store
        self.path = path
        self.base = base
        self.metadata = metadata
        self.writeType = writeType
        self.inode = inode
    }
}
