import Glibc
import LMDB
import Logging
import Platform

/// Where inode numbers, attributes and directory entries live: an LMDB file that is a cache of what the stores said.
///
/// It is committed without waiting for the disk, which a crash of the process survives; it does not outlive a boot, for its
/// expiries are in CLOCK_MONOTONIC. A file that is damaged, of another format or of another boot is begun anew.
package final class MetadataIndex: Sendable {
    /// What a directory entry says.
    package enum Child: Hashable, Sendable {
        case inode(UInt64, InodeRecord)
        case absent(until: UInt64)
    }

    private static let format = "larder-metadata-2"
    /// Address space, not disk: room for about a billion names.
    private static let capacity: UInt64 = 256 << 30
    /// FUSE's root is 1, so the first number that a file may have is above it.
    static let firstInode: UInt64 = 16

    private let environment: LMDBEnvironment
    let inodes: LMDBTable
    let names: LMDBTable
    let identities: LMDBTable
    let settings: LMDBTable
    private let logger: Logger

    /// Opens the index in `directory`, which must exist and be locked by the caller.
    package init(directory: String, bootIdentifier: String, logger: Logger) throws(LMDBError) {
        self.logger = logger
        let path = directory + "/metadata.lmdb"
        let stamp = Array("\(Self.format) \(bootIdentifier)".utf8)
        do throws(LMDBError) {
            (environment, inodes, names, identities, settings) = try Self.open(path, stamp)
        } catch {
            logger.info("the metadata index is begun anew", metadata: ["path": "\(path)", "reason": "\(error)"])
            unlink(path)
            unlink(path + "-lock")
            (environment, inodes, names, identities, settings) = try Self.open(path, stamp)
        }
    }

    private static func open(
        _ path: String, _ stamp: [UInt8]
    ) throws(LMDBError) -> (LMDBEnvironment, LMDBTable, LMDBTable, LMDBTable, LMDBTable) {
        let environment = try LMDBEnvironment(
            path: path, capacity: capacity, tables: 8, durability: .processOnly)
        let inodes = try environment.table("inodes")
        let names = try environment.table("names")
        let identities = try environment.table("identities")
        let settings = try environment.table("settings")
        let key = Array("stamp".utf8)
        try environment.write { (transaction) throws(LMDBError) in
            if let known = try transaction.get(settings, key) {
                guard known.elementsEqual(stamp) else { throw LMDBError(EEXIST) }
            } else {
                try transaction.put(settings, key, stamp)
            }
        }
        return (environment, inodes, names, identities, settings)
    }

    /// The record of an inode; nil when there is none.
    package func record(_ inode: UInt64) -> InodeRecord? { read { $0.record(inode) } }

    package func child(of parent: UInt64, named name: ByteString) -> Child? {
        read { $0.child(of: parent, named: name) }
    }

    /// The path of a record within its store; nil when a directory above it is gone.
    package func path(of record: InodeRecord) -> ByteString? {
        read { transaction in
            var parts: [ByteString] = []
            var current = record
            while current.parent != 0 {
                // A path has at most 4096 bytes; more parts than that are damage.
                guard parts.count < 4096 else { return nil }
                parts.append(current.name)
                guard let parent = transaction.record(current.parent) else { return nil }
                current = parent
            }
            return ByteString(parts.reversed().map(\.bytes).joined(separator: [UInt8(ascii: "/")]))
        }
    }

    /// Up to `limit` entries of a directory in the order of their names, after `after`.
    package func children(of parent: UInt64, after: ByteString?, limit: Int) -> [ListingStream.Item] {
        read { transaction in
            var items: [ListingStream.Item] = []
            for entry in transaction.entries(of: parent, after: after, limit: limit) {
                guard let inode = entry.inode, let record = transaction.record(inode) else { continue }
                items.append(ListingStream.Item(name: entry.name, inode: inode, record: record))
            }
            return items
        } ?? []
    }

    /// Runs `body` in a write transaction. What cannot be written is logged and forgotten: the index is a cache.
    package func update<Result>(_ body: (IndexTransaction) -> Result) -> Result {
        var outcome: Result?
        do throws(LMDBError) {
            return try environment.write { (raw) throws(LMDBError) in
                let transaction = IndexTransaction(raw, self)
                let result = body(transaction)
                outcome = result
                if let error = transaction.failure { throw error }
                return result
            }
        } catch {
            logger.error("the metadata index cannot be written", metadata: ["reason": "\(error)"])
            // The transaction ran and was undone: its result is right for this caller, but is not remembered.
            if let outcome { return outcome }
            return body(IndexTransaction(nil, self))
        }
    }

    private func read<Result>(_ body: (IndexTransaction) -> Result?) -> Result? {
        environment.read(
            { transaction in body(IndexTransaction(transaction, self)) },
            orOnFailure: { error in
                logger.error("the metadata index cannot be read", metadata: ["reason": "\(error)"])
                return nil
            })
    }
}
