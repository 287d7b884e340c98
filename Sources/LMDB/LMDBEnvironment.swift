import CLMDB
import Glibc
import Platform

/// A failed LMDB call (http://www.lmdb.tech/doc/group__errors.html, or an errno).
public struct LMDBError: Error, Hashable, Sendable, CustomStringConvertible {
    package let code: CInt
    @usableFromInline package init(_ code: CInt) { self.code = code }
    /// For people.
    public var description: String { String(cString: mdb_strerror(code)) }

    /// MDB_MAP_FULL: the environment has reached its size.
    package var isFull: Bool { code == MDB_MAP_FULL }

    /// Whether it speaks of the file or its disk, and not of what was asked: the next call will hardly fare better.
    package var isFailureOfFile: Bool {
        [MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_PANIC, MDB_MAP_FULL, EIO, ENOSPC, EDQUOT, EROFS, EFBIG].contains(code)
    }

    @usableFromInline static func check(_ code: CInt) throws(LMDBError) {
        guard code == MDB_SUCCESS else { throw LMDBError(code) }
    }
}

/// A table within an environment.
package struct LMDBTable: Hashable, Sendable {
    let handle: MDB_dbi
}

/// An LMDB environment: a memory-mapped, crash-safe, ordered key-value file with one writer and many readers.
///
/// Keys are 1…511 bytes, ordered bytewise. Any thread; write transactions exclude each other.
///
/// Public as `Lock` is, for its transactions.
public final class LMDBEnvironment: @unchecked Sendable {
    package enum Durability: Sendable {
        /// A committed transaction survives a power cut: commit waits for the disk.
        case durable
        /// A committed transaction survives a crash of the process, not of the machine.
        case processOnly
    }

    private let raw: OpaquePointer

    /// Opens or creates the environment in the file `path` (and `path-lock` beside it).
    /// - Parameters:
    ///   - capacity: bytes of address space, the upper bound of the file.
    ///   - tables: how many named tables there may be.
    package init(path: String, capacity: UInt64, tables: UInt32, durability: Durability) throws(LMDBError) {
        var raw: OpaquePointer?
        try LMDBError.check(mdb_env_create(&raw))
        guard let raw else { throw LMDBError(CInt(MDB_PANIC)) }
        self.raw = raw
        // From here on a failure runs `deinit`, which closes the environment.
        try LMDBError.check(mdb_env_set_mapsize(raw, Int(capacity)))
        try LMDBError.check(mdb_env_set_maxdbs(raw, tables))
        try LMDBError.check(mdb_env_set_maxreaders(raw, 510))
        // NOTLS: a read transaction belongs to its object and not to its thread. NORDAHEAD: lookups are random.
        var flags = UInt32(MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD)
        if durability == .processOnly { flags |= UInt32(MDB_NOSYNC) }
        try LMDBError.check(mdb_env_open(raw, path, flags, 0o600))
    }

    deinit { mdb_env_close(raw) }

    /// Opens or creates a table.
    package func table(_ name: String) throws(LMDBError) -> LMDBTable {
        var handle: MDB_dbi = 0
        try write { (transaction) throws(LMDBError) in
            try LMDBError.check(mdb_dbi_open(transaction.raw, name, UInt32(MDB_CREATE), &handle))
        }
        return LMDBTable(handle: handle)
    }

    /// Runs `body` on a consistent snapshot. Buffers that it is given are valid only inside.
    @inlinable public func read<Result, Failure: Error>(
        _ body: (LMDBTransaction) throws(Failure) -> Result, orOnFailure fallback: (LMDBError) -> Result
    ) throws(Failure) -> Result {
        let transaction: LMDBTransaction
        do throws(LMDBError) { transaction = try begin(isReading: true) } catch { return fallback(error) }
        defer { transaction.abort() }
        return try body(transaction)
    }

    /// Runs `body` in a write transaction and commits; a thrown error aborts it. Waits for other writers; never suspends.
    @inlinable public func write<Result>(
        _ body: (LMDBTransaction) throws(LMDBError) -> Result
    ) throws(LMDBError) -> Result {
        let transaction = try begin(isReading: false)
        let result: Result
        do throws(LMDBError) { result = try body(transaction) } catch {
            transaction.abort()
            throw error
        }
        try transaction.commit()
        return result
    }

    @usableFromInline func begin(isReading: Bool) throws(LMDBError) -> LMDBTransaction {
        var transaction: OpaquePointer?
        try LMDBError.check(mdb_txn_begin(raw, nil, isReading ? UInt32(MDB_RDONLY) : 0, &transaction))
        guard let transaction else { throw LMDBError(CInt(MDB_PANIC)) }
        return LMDBTransaction(raw: transaction)
    }

    /// Flushes what `.processOnly` left to the kernel.
    package func synchronize() throws(LMDBError) { try LMDBError.check(mdb_env_sync(raw, 1)) }

    /// Bytes of the file in use.
    package var usedBytes: UInt64 {
        var info = MDB_envinfo()
        var status = MDB_stat()
        guard mdb_env_info(raw, &info) == MDB_SUCCESS, mdb_env_stat(raw, &status) == MDB_SUCCESS else { return 0 }
        return UInt64(info.me_last_pgno + 1) * UInt64(status.ms_psize)
    }
}
