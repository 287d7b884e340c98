import Platform

/// Why a stored record cannot be used.
struct RecordError: Error, Hashable, Sendable {
    let field: String
}

/// The fields of a record by name, for the message of the one that does not fit.
extension RecordReader {
    mutating func take<Number: FixedWidthInteger>(_ field: String, as type: Number.Type) throws(RecordError) -> Number {
        guard let number = integer(type) else { throw RecordError(field: field) }
        return number
    }

    mutating func takeCounted(_ field: String, limit: Int) throws(RecordError) -> [UInt8] {
        guard let bytes = counted(limit: limit) else { throw RecordError(field: field) }
        return bytes
    }

    func finish() throws(RecordError) {
        guard isAtEnd else { throw RecordError(field: "end") }
    }
}
