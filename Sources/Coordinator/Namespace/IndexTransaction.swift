import LMDB
import Platform

/// Typed access to the metadata index within one LMDB transaction.
///
/// The first failure is kept in `failure` and later writes do nothing; the transaction is then undone as a whole.
package final class IndexTransaction {
    private let raw: LMDBTransaction?
    private let index: MetadataIndex
    private(set) var failure: LMDBError?

    /// - Parameter raw: nil for a transaction that holds nothing and keeps nothing.
    init(_ raw: LMDBTransaction?, _ index: MetadataIndex) {
        self.raw = raw
        self.index = index
    }

    func record(_ inode: UInt64) -> InodeRecord? {
        value(index.inodes, Self.key(inode)).flatMap { InodeRecord(encoded: $0) }
    }

    func setRecord(_ inode: UInt64, _ record: InodeRecord) { put(index.inodes, Self.key(inode), record.encoded()) }

    func removeRecord(_ inode: UInt64) { remove(index.inodes, Self.key(inode)) }

    func child(of parent: UInt64, named name: ByteString) -> MetadataIndex.Child? {
        guard let bytes = value(index.names, Self.key(parent, name)), let entry = Entry(bytes) else { return nil }
        switch entry {
        case .absent(let until): return .absent(until: until)
        case .inode(let inode, _): return record(inode).map { .inode(inode, $0) }
        }
    }

    func setChild(_ parent: UInt64, _ name: ByteString, inode: UInt64, listing: UInt32) {
        put(index.names, Self.key(parent, name), Entry.inode(inode, listing: listing).encoded)
    }

    func setAbsent(_ parent: UInt64, _ name: ByteString, until: UInt64) {
        put(index.names, Self.key(parent, name), Entry.absent(until: until).encoded)
    }

    /// A number that no inode has had.
    func allocateInode() -> UInt64 {
        let key = Array("next".utf8)
        let next =
            value(index.settings, key).flatMap { bytes -> UInt64? in
                var reader = RecordReader(bytes)
                return reader.integer(UInt64.self)
            } ?? MetadataIndex.firstInode
        var writer = RecordWriter()
        writer.integer(next + 1)
        put(index.settings, key, writer.bytes)
        return next
    }

    /// A number kept under a name, made by `make` at first.
    func setting(_ name: String, orMake make: () -> UInt64) -> UInt64 {
        // LMDB keys have at most 511 bytes.
        let key = Array(("number " + name).utf8.prefix(500))
        if let bytes = value(index.settings, key) {
            var reader = RecordReader(bytes)
            if let known = reader.integer(UInt64.self) { return known }
        }
        let made = make()
        var writer = RecordWriter()
        writer.integer(made)
        put(index.settings, key, writer.bytes)
        return made
    }

    /// Up to `limit` names of a directory, absent ones included, in order after `after`; inode nil for an absent one.
    func entries(
        of parent: UInt64, after: ByteString?, limit: Int
    ) -> [(name: ByteString, inode: UInt64?, listing: UInt32)] {
        guard let raw else { return [] }
        let prefix = Self.key(parent)
        // The smallest key above `after` is `after` with a zero byte: names hold no NUL.
        let start = after.map { prefix + $0.bytes + [0] } ?? prefix
        var found: [(ByteString, UInt64?, UInt32)] = []
        do throws(LMDBError) {
            try raw.scan(index.names, from: start) { key, bytes in
                guard key.starts(with: prefix) else { return false }
                let name = ByteString(key.dropFirst(prefix.count))
                switch Entry(bytes) {
                case .inode(let inode, let listing): found.append((name, inode, listing))
                case .absent, nil: found.append((name, nil, 0))
                }
                return found.count < limit
            }
        } catch { failure = failure ?? error }
        return found
    }

    /// Removes the names of a directory that listing `keeping` did not show, looking at `limit` of them after `after`.
    /// Returns the last name looked at (nil: that was the end) and the removed ones.
    func sweep(
        _ parent: UInt64, after: ByteString?, keeping listing: UInt32, limit: Int
    ) -> (last: ByteString?, removed: [ByteString]) {
        let entries = entries(of: parent, after: after, limit: limit)
        var removed: [ByteString] = []
        for entry in entries where entry.listing != listing {
            remove(index.names, Self.key(parent, entry.name))
            // Absent names too: a kernel may hold that answer, and later only what the index has can be taken back.
            removed.append(entry.name)
            if let inode = entry.inode { removeRecord(inode) }
        }
        return (entries.count < limit ? nil : entries.last?.name, removed)
    }

    private func value(_ table: LMDBTable, _ key: [UInt8]) -> UnsafeRawBufferPointer? {
        guard let raw else { return nil }
        do throws(LMDBError) { return try raw.get(table, key) } catch {
            failure = failure ?? error
            return nil
        }
    }

    private func put(_ table: LMDBTable, _ key: [UInt8], _ bytes: [UInt8]) {
        guard let raw, failure == nil else { return }
        do throws(LMDBError) { try raw.put(table, key, bytes) } catch { failure = error }
    }

    private func remove(_ table: LMDBTable, _ key: [UInt8]) {
        guard let raw, failure == nil else { return }
        do throws(LMDBError) { try raw.remove(table, key) } catch { failure = error }
    }

    /// Big-endian, so that LMDB's bytewise order is the numbers' order and a directory's names lie together.
    private static func key(_ inode: UInt64, _ name: ByteString = "") -> [UInt8] {
        withUnsafeBytes(of: inode.bigEndian) { Array($0) } + name.bytes
    }

    /// The value of a directory entry.
    private enum Entry {
        case inode(UInt64, listing: UInt32)
        case absent(until: UInt64)

        init?(_ bytes: UnsafeRawBufferPointer) {
            var reader = RecordReader(bytes)
            switch reader.integer(UInt8.self) {
            case 1:
                guard let inode = reader.integer(UInt64.self), let listing = reader.integer(UInt32.self) else {
                    return nil
                }
                self = .inode(inode, listing: listing)
            case 2:
                guard let until = reader.integer(UInt64.self) else { return nil }
                self = .absent(until: until)
            default: return nil
            }
        }

        var encoded: [UInt8] {
            var writer = RecordWriter()
            switch self {
            case .inode(let inode, let listing):
                writer.integer(1 as UInt8)
                writer.integer(inode)
                writer.integer(listing)
            case .absent(let until):
                writer.integer(2 as UInt8)
                writer.integer(until)
            }
            return writer.bytes
        }
    }
}
