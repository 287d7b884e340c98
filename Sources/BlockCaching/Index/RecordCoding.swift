/// Appends little-endian fields.
struct RecordWriter {
    private(set) var bytes: [UInt8] = []

    mutating func append<Number: FixedWidthInteger>(_ number: Number) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// A count in 32 bits, then the bytes.
    mutating func append(counted part: [UInt8]) {
        append(UInt32(part.count))
        bytes.append(contentsOf: part)
    }
}

/// Why a stored record cannot be used.
struct RecordError: Error, Hashable, Sendable {
    let field: String
}

/// Takes little-endian fields from bytes that may be damaged or hostile; never reads past the end.
struct RecordReader {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    mutating func take<Number: FixedWidthInteger>(_ field: String, as _: Number.Type) throws(RecordError) -> Number {
        let size = MemoryLayout<Number>.size
        guard bytes.count - position >= size else { throw RecordError(field: field) }
        defer { position += size }
        return Number(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: Number.self))
    }

    mutating func takeCounted(_ field: String, limit: Int) throws(RecordError) -> [UInt8] {
        let count = Int(try take(field, as: UInt32.self))
        guard count <= limit, bytes.count - position >= count else { throw RecordError(field: field) }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    func finish() throws(RecordError) {
        guard position == bytes.count else { throw RecordError(field: "end") }
    }
}
