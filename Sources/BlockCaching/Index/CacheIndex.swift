import BlockMaps
import Glibc
import LMDB
import Platform
import Synchronization
import SystemPackage

/// The index of cached objects in LMDB: nothing is loaded at start, and a kill at any point leaves the last commit.
///
/// Reads from any thread that may block; writes from the flush thread only.
final class CacheIndex: Sendable {
    private static let stateKey: [UInt8] = Array("state".utf8)
    // Address space, not memory: 1 M records take about 400 MB, and the file grows only as needed.
    private static let capacity: UInt64 = 64 << 30
    private static let versionMismatch: CInt = -30794  // MDB_VERSION_MISMATCH

    private let environment: LMDBEnvironment
    /// The index's own state, the usage of each tier by its number, and the objects by digest.
    private let meta, tiers, objects: LMDBTable
    let path: String
    /// Records decoded since start, one by one for readers and in batches behind: a test of the start-up cost counts
    /// them.
    let recordsRead = Atomic<UInt64>(0)
    let recordsScanned = Atomic<UInt64>(0)

    init(directory: String) throws(CacheError) {
        path = directory
        do {
            try TierDirectory.makeDirectories(directory)
            guard try Self.isNewOrLMDB(directory + "/objects.lmdb") else { throw CacheError.foreign(path: directory) }
            environment = try LMDBEnvironment(
                path: directory + "/objects.lmdb", capacity: Self.capacity, tables: 3, durability: .durable)
            meta = try environment.table("meta")
            tiers = try environment.table("tiers")
            objects = try environment.table("objects")
        } catch let error as CacheError {
            throw error
        } catch let error as LMDBError where error.code == Self.versionMismatch {
            throw .newerFormat(path: directory, version: "of another LMDB")
        } catch {
            throw .unusable(path: directory, reason: "\(error); remove it to start with an empty cache")
        }
    }

    /// Whether a file may be an LMDB environment: absent, empty, or with `MDB_MAGIC` behind the header of its first
    /// page.
    private static func isNewOrLMDB(_ path: String) throws -> Bool {
        let file: Descriptor
        do throws(Errno) { file = try Descriptor.open(path, O_RDONLY) } catch {
            guard error == .noSuchFileOrDirectory else { throw error }
            return true
        }
        var start = [UInt32](repeating: 0, count: 5)
        let count = try start.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
        return count == 0 || (count == 20 && start[4] == 0xBEEF_C0DE)
    }

    private func read<Value>(_ body: (LMDBTransaction) throws -> Value) throws -> Value {
        try environment.read({ .success(try body($0)) }, orOnFailure: { Result<Value, LMDBError>.failure($0) }).get()
    }

    private static func key(of tier: UInt64) -> [UInt8] { withUnsafeBytes(of: tier.bigEndian) { Array($0) } }

    /// nil for a new index. Throws `.newerFormat` for another format.
    func state() throws(CacheError) -> IndexState? {
        do {
            return try read { transaction in
                try transaction.get(meta, Self.stateKey).map { try IndexState(decoding: $0) }
            }
        } catch let error as RecordError where error.field.hasPrefix("format ") {
            throw .newerFormat(path: path, version: String(error.field.dropFirst(7)))
        } catch {
            throw .unusable(path: path, reason: "\(error); remove it to start with an empty cache")
        }
    }

    func tierUsage() throws -> [UInt64: TierUsage] {
        try read { transaction in
            var found: [UInt64: TierUsage] = [:]
            try transaction.scan(tiers, from: []) { key, value in
                guard key.count == 8 else { return true }
                found[UInt64(bigEndian: key.loadUnaligned(as: UInt64.self))] = try? TierUsage(decoding: value)
                return true
            }
            return found
        }
    }

    /// nil when there is none, or one that cannot be used.
    func record(_ digest: ObjectDigest) throws -> ObjectRecord? {
        try read { transaction in
            guard let bytes = try transaction.get(objects, digest.bytes) else { return nil }
            recordsRead.add(1, ordering: .relaxed)
            guard let record = try? ObjectRecord(decoding: bytes), record.id.digest == digest else { return nil }
            return record
        }
    }

    /// Up to `limit` records behind `digest` in order of digest (nil: from the first), nil in place of damaged ones.
    func records(
        after digest: ObjectDigest?, limit: Int
    ) throws -> [(digest: ObjectDigest, record: ObjectRecord?)] {
        try read { transaction in
            var found: [(ObjectDigest, ObjectRecord?)] = []
            try transaction.scan(objects, from: digest.map { $0.bytes + [0] } ?? []) { key, value in
                guard found.count < limit else { return false }
                guard let digest = ObjectDigest(bytes: key) else { return true }
                recordsScanned.add(1, ordering: .relaxed)
                found.append((digest, try? ObjectRecord(decoding: value)))
                return true
            }
            return found
        }
    }

    /// One change of the index.
    enum Change: Sendable {
        case put(ObjectDigest, ObjectRecord)
        case remove(ObjectDigest)
        case usage(tier: UInt64, TierUsage?)
        case state(IndexState)
    }

    /// Makes all changes, durably, or none.
    func commit(_ changes: [Change]) throws(LMDBError) {
        guard !changes.isEmpty else { return }
        try environment.write { (transaction) throws(LMDBError) in
            for change in changes {
                switch change {
                case .put(let digest, let record): try transaction.put(objects, digest.bytes, record.encoded())
                case .remove(let digest): try transaction.remove(objects, digest.bytes)
                case .usage(let tier, .some(let usage)): try transaction.put(tiers, Self.key(of: tier), usage.encoded())
                case .usage(let tier, .none): try transaction.remove(tiers, Self.key(of: tier))
                case .state(let state): try transaction.put(meta, Self.stateKey, state.encoded())
                }
            }
        }
    }
}
