import LMDB
import Platform

/// Typed access to the metadata index within one LMDB transaction.
///
/// The first failure is kept in `failure` and later writes do nothing; the transaction is then undone as a whole.
package final class IndexTransaction {
    private let raw: LMDBTransaction?
    private let index: MetadataFile
    private(set) var failure: LMDBError?

    /// - Parameter raw: nil for a transaction that holds nothing and keeps nothing.
    init(_ raw: LMDBTransaction?, _ index: MetadataFile) {
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
        guard let inode = entry.inode else { return .absent(until: entry.mark) }
        return record(inode).map { .inode(inode, $0) }
    }

    /// - Parameter changedAt: CLOCK_MONOTONIC nanoseconds of a change that was made through Larder, or before which the
    ///   store was not asked: what it was asked earlier is out of date. 0 when neither is known.
    func setChild(_ parent: UInt64, _ name: ByteString, inode: UInt64, listing: UInt32, changedAt: UInt64 = 0) {
        put(index.names, Self.key(parent, name), Entry(inode: inode, mark: UInt64(listing), changedAt).encoded)
    }

    func setAbsent(_ parent: UInt64, _ name: ByteString, until: UInt64, changedAt: UInt64 = 0) {
        put(index.names, Self.key(parent, name), Entry(inode: nil, mark: until, changedAt).encoded)
    }

    func removeName(_ parent: UInt64, _ name: ByteString) { remove(index.names, Self.key(parent, name)) }

    /// What stands under a name has been changed through Larder.
    func touchChild(_ parent: UInt64, _ name: ByteString, changedAt: UInt64) {
        guard let entry = value(index.names, Self.key(parent, name)).flatMap({ Entry($0) }), entry.inode != nil else {
            return
        }
        put(index.names, Self.key(parent, name), Entry(inode: entry.inode, mark: entry.mark, changedAt).encoded)
    }

    /// When the name was last changed through Larder, or last asked for; 0 for never, as far as is known.
    func changeTime(of parent: UInt64, _ name: ByteString) -> UInt64 {
        value(index.names, Self.key(parent, name)).flatMap { Entry($0) }?.changedAt ?? 0
    }

    /// A file that has, or had, several names: its inode, and the names that are known, which may be out of date.
    struct SharedFile {
        let inode: UInt64
        var names: [(parent: UInt64, name: ByteString)]
    }

    func sharedFile(of mount: UInt32, _ identity: ByteString) -> SharedFile? {
        value(index.identities, Self.key(UInt64(mount), identity)).flatMap { bytes in
            var reader = RecordReader(bytes)
            guard let inode = reader.integer(UInt64.self), let count = reader.integer(UInt16.self) else { return nil }
            var names: [(parent: UInt64, name: ByteString)] = []
            for _ in 0..<count {
                guard let parent = reader.integer(UInt64.self), let name = reader.bytes() else { return nil }
                names.append((parent, name))
            }
            return SharedFile(inode: inode, names: names)
        }
    }

    /// Notes a name of a file with several; the latest few are kept.
    func addName(_ parent: UInt64, _ name: ByteString, toInode inode: UInt64, _ mount: UInt32, _ identity: ByteString) {
        var names = sharedFile(of: mount, identity)?.names.filter { $0.parent != parent || $0.name != name } ?? []
        names = names.suffix(63) + [(parent, name)]
        var writer = RecordWriter()
        writer.integer(inode)
        writer.integer(UInt16(names.count))
        for (parent, name) in names {
            writer.integer(parent)
            writer.bytes(name)
        }
        put(index.identities, Self.key(UInt64(mount), identity), writer.bytes)
    }

    /// A number that no inode has had.
    func allocateInode() -> UInt64 { allocateInodes(1) }

    /// The first of so many numbers in a row that no inode has had.
    func allocateInodes(_ count: UInt64) -> UInt64 {
        let key = MetadataFile.nextInodeKey
        let next =
            value(index.settings, key).flatMap { bytes -> UInt64? in
                var reader = RecordReader(bytes)
                return reader.integer(UInt64.self)
            } ?? MetadataIndex.firstInode
        var writer = RecordWriter()
        writer.integer(next + count)
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

    /// A name in a directory.
    struct NamedEntry {
        let name: ByteString
        /// nil for a name that is known to be absent.
        let inode: UInt64?
        /// The listing that showed it last.
        let listing: UInt32
        /// CLOCK_MONOTONIC nanoseconds, as of `setChild`.
        let changedAt: UInt64
    }

    /// Up to `limit` names of a directory, absent ones included, in order after `after`.
    func entries(of parent: UInt64, after: ByteString?, limit: Int) -> [NamedEntry] {
        guard let raw else { return [] }
        let prefix = Self.key(parent)
        // The smallest key above `after` is `after` with a zero byte: names hold no NUL.
        let start = after.map { prefix + $0.bytes + [0] } ?? prefix
        var found: [NamedEntry] = []
        do throws(LMDBError) {
            try raw.scan(index.names, from: start) { key, bytes in
                guard key.starts(with: prefix) else { return false }
                let name = ByteString(key.dropFirst(prefix.count))
                let entry = Entry(bytes)
                let listing = entry?.inode == nil ? 0 : entry?.mark ?? 0
                found.append(
                    NamedEntry(
                        name: name, inode: entry?.inode, listing: UInt32(truncatingIfNeeded: listing),
                        changedAt: entry?.changedAt ?? 0))
                return found.count < limit
            }
        } catch { failure = failure ?? error }
        return found
    }

    /// What `sweep` did with the entries that it looked at.
    struct Sweep {
        /// The last name looked at; nil: that was the end.
        var last: ByteString?
        var removed: [ByteString] = []
        var kept: [ListingStream.Item] = []
    }

    /// What is known of an entry when a listing has ended.
    enum Standing {
        case shown
        case kept
        /// Stays if the predicate says so of its inode.
        case unknown((UInt64, InodeRecord) -> Bool)
    }

    /// Removes the names of a directory that a listing did not show, looking at `limit` of them after `after`.
    func sweep(
        _ parent: UInt64, after: ByteString?, limit: Int, _ standing: (NamedEntry) -> Standing
    ) -> Sweep {
        let entries = entries(of: parent, after: after, limit: limit)
        var sweep = Sweep(last: entries.count < limit ? nil : entries.last?.name)
        for entry in entries {
            let record = entry.inode.flatMap { self.record($0) }
            switch standing(entry) {
            case .shown: continue
            case .kept:
                if let inode = entry.inode, let record {
                    sweep.kept.append(ListingStream.Item(name: entry.name, inode: inode, record: record))
                }
                continue
            case .unknown(let stays):
                if let inode = entry.inode, let record, stays(inode, record) {
                    sweep.kept.append(ListingStream.Item(name: entry.name, inode: inode, record: record))
                    continue
                }
            }
            remove(index.names, Self.key(parent, entry.name))
            // Absent names too: a kernel may hold that answer, and later only what the index has can be taken back.
            sweep.removed.append(entry.name)
            if let inode = entry.inode { removeRecord(inode) }
        }
        return sweep
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
    private struct Entry {
        /// nil for a name that is absent.
        let inode: UInt64?
        /// The number of the listing that showed it last; of an absent name, until when it is believed to be absent.
        let mark: UInt64
        let changedAt: UInt64

        init(inode: UInt64?, mark: UInt64, _ changedAt: UInt64) {
            self.inode = inode
            self.mark = mark
            self.changedAt = changedAt
        }

        init?(_ bytes: UnsafeRawBufferPointer) {
            var reader = RecordReader(bytes)
            guard let inode = reader.integer(UInt64.self), let mark = reader.integer(UInt64.self),
                let changedAt = reader.integer(UInt64.self), reader.isAtEnd
            else { return nil }
            self.init(inode: inode == 0 ? nil : inode, mark: mark, changedAt)
        }

        var encoded: [UInt8] {
            var writer = RecordWriter()
            writer.integer(inode ?? 0)
            writer.integer(mark)
            writer.integer(changedAt)
            return writer.bytes
        }
    }
}
