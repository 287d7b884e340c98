import Glibc
import LMDB
import Logging
import Platform

/// Where inode numbers, attributes and directory entries live: an LMDB file that is a cache of what the stores said.
///
/// It is committed without waiting for the disk, which a crash of the process survives; it does not outlive a boot, for its
/// expiries are in CLOCK_MONOTONIC. A file that is damaged, of another format or of another boot is begun anew; one that
/// fails while it is used is replaced by one in memory.
package final class MetadataIndex: Sendable {
    /// What a directory entry says.
    package enum Child: Hashable, Sendable {
        case inode(UInt64, InodeRecord)
        case absent(until: UInt64)
    }

    /// FUSE's root is 1, so the first number that a file may have is above it.
    static let firstInode: UInt64 = 16

    private let file: Lock<MetadataFile>
    private let replacing = Lock(())
    private let logger: Logger
    private let numbers = Lock<Range<UInt64>>(0..<0)

    /// Opens the index in `directory`, which must exist and be locked by the caller.
    package init(directory: String, bootIdentifier: String, logger: Logger) throws(LMDBError) {
        self.logger = logger
        let path = directory + "/metadata.lmdb"
        let stamp = "\(MetadataFile.format) \(bootIdentifier)"
        do throws(LMDBError) { file = Lock(try MetadataFile(path: path, stamp: stamp)) } catch {
            logger.info("the metadata index is begun anew", metadata: ["path": "\(path)", "reason": "\(error)"])
            unlink(path)
            unlink(path + "-lock")
            file = Lock(try MetadataFile(path: path, stamp: stamp))
        }
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

    /// Runs `body` in a write transaction. A file that fails is left for one in memory (`replace`); `body` may run twice.
    package func update<Result>(_ body: (IndexTransaction) -> Result) -> Result {
        let used = file.withLock { $0 }
        var outcome: Result?
        do throws(LMDBError) { return try used.update(body) { outcome = $0 } } catch {
            logger.error("the metadata index cannot be written", metadata: ["reason": "\(error)"])
            if error.isFailureOfFile, let other = replace(used, after: error) {
                do throws(LMDBError) { return try other.update(body) { outcome = $0 } } catch {}
            }
            // The transaction ran and was undone: its result is right for this caller, but is not remembered.
            if let outcome { return outcome }
            return body(IndexTransaction(nil, used))
        }
    }

    // How many inode numbers are set aside with one write.
    private static let numbersAhead: UInt64 = 1024

    /// A number that no inode has had, mostly without a write.
    func allocateInode() -> UInt64 {
        let ready = numbers.withLock { $0.popFirst() }
        if let ready { return ready }
        let first = update { $0.allocateInodes(Self.numbersAhead) }
        numbers.withLock { $0 = first + 1..<first + Self.numbersAhead }
        return first
    }

    private func read<Result>(_ body: (IndexTransaction) -> Result?) -> Result? {
        let used = file.withLock { $0 }
        do throws(LMDBError) { return try used.read(body) } catch {
            logger.error("the metadata index cannot be read", metadata: ["reason": "\(error)"])
            guard error.isFailureOfFile, let other = replace(used, after: error) else { return nil }
            return try? other.read(body)
        }
    }

    /// Goes on in memory with what can still be read of a file that fails: its disk is broken or full. nil when that
    /// cannot be either. Whoever comes second gets what the first has made.
    private func replace(_ failed: MetadataFile, after error: LMDBError) -> MetadataFile? {
        let (current, line) = replacing.withLock { [file] _ -> (MetadataFile?, String?) in
            let current = file.withLock { $0 }
            if current !== failed { return (current, nil) }
            do throws(LMDBError) {
                let (fresh, isWhole) = try failed.copyInMemory()
                file.withLock { $0 = fresh }
                let kept = isWhole ? "all" : "a part"
                return (fresh, "the metadata index goes on in memory, with \(kept) of its records")
            } catch { return (nil, "there is no place for another metadata index: \(error)") }
        }
        if let line { logger.error("\(line)", metadata: ["reason": "\(error)"]) }
        return current
    }
}
