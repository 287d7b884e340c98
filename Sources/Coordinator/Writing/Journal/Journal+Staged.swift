import LMDB
import Platform
import UnderStores

/// A part of an upload that the store has.
struct StagedPart: Hashable, Sendable {
    let print: Fingerprint
    let part: UploadedPart
}

/// An upload that nobody needs any more, until the store has heard so; or, `unknown`, one that is about to begin.
struct AbandonedUpload: Hashable, Sendable {
    let number: UInt64
    let store: String
    let path: ByteString
    let upload: UploadID
}

extension Journal {
    /// - Parameter answering: the operation that made the file, and its answer, noted with it.
    func put(
        _ record: StagedRecord, number: UInt64, answering: (key: OperationLog.Key, answer: [UInt8])? = nil
    ) throws(LMDBError) {
        try update { (transaction) throws(LMDBError) in
            try put(record, number: number, transaction)
            if let (key, answer) = answering { try note(answer, of: key.operation, by: key.client, transaction) }
        }
    }

    /// Writes the records of several files at once. What each is now is asked for within the transaction, so that no older
    /// record replaces a newer one; nil: it has none any more.
    func put(_ numbers: [UInt64], _ record: (UInt64) -> StagedRecord?) throws(LMDBError) {
        try update { (transaction) throws(LMDBError) in
            for number in numbers {
                guard let record = record(number) else { continue }
                try put(record, number: number, transaction)
            }
        }
    }

    func put(_ record: StagedRecord, number: UInt64, _ transaction: LMDBTransaction) throws(LMDBError) {
        try transaction.put(staged, Self.key(number), record.encoded())
    }

    /// Forgets a staged file and its parts.
    func removeStaged(_ number: UInt64) throws(LMDBError) {
        _ = try environment().write { (transaction) throws(LMDBError) in
            try transaction.remove(staged, Self.key(number))
            try removeParts(of: number, transaction)
        }
    }

    func stagedRecords() throws(LMDBError) -> [(number: UInt64, record: StagedRecord)] {
        try records(of: staged, named: "staged file") { number, bytes in
            StagedRecord.decode(bytes).map { (number, $0) }
        }
    }

    // MARK: Parts

    private static func key(_ number: UInt64, part: Int) -> [UInt8] {
        key(number) + withUnsafeBytes(of: UInt32(part).bigEndian) { Array($0) }
    }

    func put(_ part: StagedPart, of number: UInt64) throws(LMDBError) {
        var writer = RecordWriter()
        writer.fingerprint(part.print)
        writer.string(part.part.tag)
        writer.integer(part.part.size)
        writer.optional(part.part.checksum) { $0.integer($1) }
        try environment().write { (transaction) throws(LMDBError) in
            try transaction.put(parts, Self.key(number, part: part.part.number), writer.bytes)
        }
    }

    /// The parts of a file's upload by number; a damaged one is left out: it is uploaded again.
    func stagedParts(of number: UInt64) throws(LMDBError) -> [Int: StagedPart] {
        var found: [Int: StagedPart] = [:]
        let prefix = Self.key(number)
        try read { (transaction) throws(LMDBError) in
            try transaction.scan(parts, from: prefix) { key, value in
                guard key.prefix(8).elementsEqual(prefix) else { return false }
                guard key.count == 12 else { return true }
                let part = Int(UInt32(bigEndian: key.loadUnaligned(fromByteOffset: 8, as: UInt32.self)))
                var reader = RecordReader(value)
                if let print = reader.fingerprint(), let tag = reader.string(), let size = reader.integer(UInt64.self),
                    let checksum = reader.optional({ $0.integer(UInt32.self) }), reader.isAtEnd
                {
                    found[part] = StagedPart(
                        print: print, part: UploadedPart(number: part, tag: tag, size: size, checksum: checksum))
                }
                return true
            }
        }
        return found
    }

    func removeParts(of number: UInt64) throws(LMDBError) {
        try environment().write { (transaction) throws(LMDBError) in try removeParts(of: number, transaction) }
    }

    func removeParts(of number: UInt64, _ transaction: LMDBTransaction) throws(LMDBError) {
        let prefix = Self.key(number)
        var keys: [[UInt8]] = []
        try transaction.scan(parts, from: prefix) { key, _ in
            guard key.prefix(8).elementsEqual(prefix) else { return false }
            keys.append(Array(key))
            return true
        }
        for key in keys { try transaction.remove(parts, key) }
    }

    // MARK: Uploads to be aborted

    func put(_ upload: AbandonedUpload) throws(LMDBError) {
        try update { (transaction) throws(LMDBError) in try put(upload, transaction) }
    }

    func put(_ upload: AbandonedUpload, _ transaction: LMDBTransaction) throws(LMDBError) {
        var writer = RecordWriter()
        writer.string(upload.store)
        writer.text(upload.path.bytes)
        writer.string(upload.upload.text)
        try transaction.put(uploads, Self.key(upload.number), writer.bytes)
    }

    func removeUpload(_ number: UInt64) throws(LMDBError) {
        try update { (transaction) throws(LMDBError) in try removeUpload(number, transaction) }
    }

    func removeUpload(_ number: UInt64, _ transaction: LMDBTransaction) throws(LMDBError) {
        try transaction.remove(uploads, Self.key(number))
    }

    func abandonedUploads() throws(LMDBError) -> [AbandonedUpload] {
        try records(of: uploads, named: "upload") { number, bytes in
            var reader = RecordReader(bytes)
            guard let store = reader.string(), let path = reader.text(), let upload = reader.string(), reader.isAtEnd
            else { return nil }
            return AbandonedUpload(number: number, store: store, path: ByteString(path), upload: UploadID(upload))
        }
    }
}
