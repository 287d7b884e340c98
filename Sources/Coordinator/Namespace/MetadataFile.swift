import Glibc
import LMDB
import Platform

/// One LMDB file of the metadata index, and its tables. Any thread that may block.
final class MetadataFile: Sendable {
    static let format = "larder-metadata-2"
    /// Address space, not disk: room for about a billion names.
    private static let capacity: UInt64 = 256 << 30
    /// How many records are taken along when a file is left: about 300 MB.
    private static let mostCopied = 1_000_000
    private static let stampKey = Array("stamp".utf8)
    static let nextInodeKey = Array("next".utf8)

    private let environment: LMDBEnvironment
    let inodes: LMDBTable
    let names: LMDBTable
    let identities: LMDBTable
    let settings: LMDBTable

    /// Opens or creates the file. Throws EEXIST when it has another stamp.
    init(path: String, stamp: String) throws(LMDBError) {
        environment = try LMDBEnvironment(path: path, capacity: Self.capacity, tables: 8, durability: .processOnly)
        inodes = try environment.table("inodes")
        names = try environment.table("names")
        identities = try environment.table("identities")
        settings = try environment.table("settings")
        let (settings, stamp) = (settings, Array(stamp.utf8))
        try environment.write { (transaction) throws(LMDBError) in
            if let known = try transaction.get(settings, Self.stampKey) {
                guard known.elementsEqual(stamp) else { throw LMDBError(EEXIST) }
            } else {
                try transaction.put(settings, Self.stampKey, stamp)
            }
        }
    }

    /// - Parameter onResult: told what `body` returned, which is undone when this throws.
    func update<Result>(
        _ body: (IndexTransaction) -> Result, onResult: (Result) -> Void
    ) throws(LMDBError) -> Result {
        try environment.write { (raw) throws(LMDBError) in
            let transaction = IndexTransaction(raw, self)
            let result = body(transaction)
            onResult(result)
            if let error = transaction.failure { throw error }
            return result
        }
    }

    func read<Result>(_ body: (IndexTransaction) -> Result) throws(LMDBError) -> Result {
        let outcome: Swift.Result<Result, LMDBError> = environment.read(
            { raw in
                let transaction = IndexTransaction(raw, self)
                let result = body(transaction)
                return transaction.failure.map { .failure($0) } ?? .success(result)
            }, orOnFailure: { .failure($0) })
        return try outcome.get()
    }

    /// A file without a name, in memory, with what can be read of this one, so that inodes which kernels know stay what
    /// they are; and whether that is all.
    func copyInMemory() throws(LMDBError) -> (file: MetadataFile, isWhole: Bool) {
        let fresh = try Self.inMemory()
        var isWhole = true
        var left = Self.mostCopied
        let tables = [
            (settings, fresh.settings), (inodes, fresh.inodes), (names, fresh.names), (identities, fresh.identities),
        ]
        for (from, to) in tables {
            do throws(LMDBError) {
                if try !copy(from, to: to, of: fresh, &left) { isWhole = false }
            } catch { isWhole = false }
        }
        try fresh.environment.write { (transaction) throws(LMDBError) in
            // Unknown how far the numbers went: no clock of nanoseconds is overtaken by inodes.
            guard try transaction.get(fresh.settings, Self.nextInodeKey) == nil else { return }
            var writer = RecordWriter()
            writer.integer(MonotonicClock.now())
            try transaction.put(fresh.settings, Self.nextInodeKey, writer.bytes)
        }
        return (fresh, isWhole)
    }

    /// False when there was more than `left`.
    private func copy(
        _ table: LMDBTable, to target: LMDBTable, of fresh: MetadataFile, _ left: inout Int
    ) throws(LMDBError) -> Bool {
        var start: [UInt8] = []
        while true {
            var batch: [(key: [UInt8], value: [UInt8])] = []
            let failure: LMDBError? = environment.read(
                { transaction in
                    do throws(LMDBError) {
                        try transaction.scan(table, from: start) { key, value in
                            batch.append((Array(key), Array(value)))
                            return batch.count < 10_000
                        }
                        return nil
                    } catch { return error }
                }, orOnFailure: { $0 })
            let isEnd = batch.count < 10_000
            try fresh.environment.write { (transaction) throws(LMDBError) in
                for (key, value) in batch { try transaction.put(target, key, unlisted(value, of: table)) }
            }
            if let failure { throw failure }
            left -= batch.count
            guard !isEnd, let last = batch.last else { return true }
            guard left > 0 else { return false }
            start = last.key + [0]
        }
    }

    /// A directory's record that does not claim that all its names are known: some may not have come along.
    private func unlisted(_ value: [UInt8], of table: LMDBTable) -> [UInt8] {
        guard table == inodes, var record = value.withUnsafeBytes({ InodeRecord(encoded: $0) }),
            record.listedUntil != 0
        else { return value }
        record.listedUntil = 0
        return record.encoded()
    }

    private static func inMemory() throws(LMDBError) -> MetadataFile {
        var failure = LMDBError(ENOSPC)
        for directory in ["/dev/shm", "/tmp"] {
            let path = "\(directory)/larder-metadata-\(getpid())-\(UInt32.random(in: 0 ... .max))"
            // LMDB holds both files open; without names nobody else has them, and nothing is left behind.
            defer {
                unlink(path)
                unlink(path + "-lock")
            }
            do throws(LMDBError) { return try MetadataFile(path: path, stamp: format) } catch { failure = error }
        }
        throw failure
    }
}
