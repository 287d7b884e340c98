import CLMDB
import Platform

/// A read or write transaction; valid only inside the closure that was given it.
public struct LMDBTransaction {
    let raw: OpaquePointer

    @usableFromInline func abort() { mdb_txn_abort(raw) }
    @usableFromInline func commit() throws(LMDBError) { try LMDBError.check(mdb_txn_commit(raw)) }

    /// The value of `key`; the buffer is valid until the transaction ends or writes.
    package func get(_ table: LMDBTable, _ key: [UInt8]) throws(LMDBError) -> UnsafeRawBufferPointer? {
        var value = MDB_val()
        let code = withValue(key) { mdb_get(raw, table.handle, &$0, &value) }
        if code == MDB_NOTFOUND { return nil }
        try LMDBError.check(code)
        return UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size)
    }

    /// Inserts or replaces. Write transactions only.
    package func put(_ table: LMDBTable, _ key: [UInt8], _ value: [UInt8]) throws(LMDBError) {
        try LMDBError.check(
            withValue(key) { key in withValue(value) { mdb_put(raw, table.handle, &key, &$0, 0) } })
    }

    /// Removes; false when there was no such key. Write transactions only.
    @discardableResult
    package func remove(_ table: LMDBTable, _ key: [UInt8]) throws(LMDBError) -> Bool {
        let code = withValue(key) { mdb_del(raw, table.handle, &$0, nil) }
        if code == MDB_NOTFOUND { return false }
        try LMDBError.check(code)
        return true
    }

    /// Visits pairs in key order from the first key that is not below `start`, until `visit` returns false.
    /// The buffers are valid only during the visit; `visit` must not write.
    package func scan(
        _ table: LMDBTable, from start: [UInt8], _ visit: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Bool
    ) throws(LMDBError) {
        var cursor: OpaquePointer?
        try LMDBError.check(mdb_cursor_open(raw, table.handle, &cursor))
        defer { mdb_cursor_close(cursor) }
        var value = MDB_val()
        var found = MDB_val()
        var code = withValue(start) { key in
            defer { found = key }
            return mdb_cursor_get(cursor, &key, &value, start.isEmpty ? MDB_FIRST : MDB_SET_RANGE)
        }
        while code == MDB_SUCCESS {
            let key = UnsafeRawBufferPointer(start: found.mv_data, count: found.mv_size)
            guard visit(key, UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size)) else { return }
            code = mdb_cursor_get(cursor, &found, &value, MDB_NEXT)
        }
        if code != MDB_NOTFOUND { throw LMDBError(code) }
    }

    /// The number of pairs in a table.
    package func count(_ table: LMDBTable) throws(LMDBError) -> Int {
        var status = MDB_stat()
        try LMDBError.check(mdb_stat(raw, table.handle, &status))
        return status.ms_entries
    }

    private func withValue(_ bytes: [UInt8], _ body: (inout MDB_val) -> CInt) -> CInt {
        bytes.withUnsafeBytes { buffer in
            var value = MDB_val(mv_size: buffer.count, mv_data: UnsafeMutableRawPointer(mutating: buffer.baseAddress))
            return body(&value)
        }
    }
}
