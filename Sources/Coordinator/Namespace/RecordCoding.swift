import Platform

/// Writes little-endian fields one after another.
struct RecordWriter {
    private(set) var bytes: [UInt8] = []

    mutating func integer(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// A 16-bit length, then the bytes. Names, versions and keys are all far shorter than 64 KiB.
    mutating func bytes(_ value: ByteString) {
        integer(UInt16(truncatingIfNeeded: min(value.count, Int(UInt16.max))))
        bytes.append(contentsOf: value.bytes.prefix(Int(UInt16.max)))
    }

    mutating func time(_ value: FileTime) {
        integer(value.seconds)
        integer(value.nanoseconds)
    }

    mutating func optional<Value>(_ value: Value?, _ write: (inout RecordWriter, Value) -> Void) {
        integer(value == nil ? 0 as UInt8 : 1)
        if let value { write(&self, value) }
    }
}

/// Reads what `RecordWriter` wrote; every method returns nil rather than read past the end.
struct RecordReader {
    private let buffer: UnsafeRawBufferPointer
    private var offset = 0

    init(_ buffer: UnsafeRawBufferPointer) { self.buffer = buffer }

    var isAtEnd: Bool { offset == buffer.count }

    mutating func integer<Value: FixedWidthInteger>(_: Value.Type) -> Value? {
        let size = MemoryLayout<Value>.size
        guard buffer.count - offset >= size else { return nil }
        defer { offset += size }
        return Value(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }

    mutating func bytes() -> ByteString? {
        guard let count = integer(UInt16.self), buffer.count - offset >= Int(count) else { return nil }
        defer { offset += Int(count) }
        return ByteString(buffer[offset..<offset + Int(count)])
    }

    mutating func time() -> FileTime? {
        guard let seconds = integer(Int64.self), let nanoseconds = integer(UInt32.self) else { return nil }
        return FileTime(seconds: seconds, nanoseconds: nanoseconds)
    }

    /// `.some(nil)` for an absent value, nil for damage.
    mutating func optional<Value>(_ read: (inout RecordReader) -> Value?) -> Value?? {
        switch integer(UInt8.self) {
        case 0: return .some(nil)
        case 1: return read(&self).map { .some($0) }
        default: return nil
        }
    }
}
