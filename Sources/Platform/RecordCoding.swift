/// Writes the little-endian fields of a stored record one after another.
///
/// A record starts with a format number of its owner's, so that a later release can tell it apart.
///
/// Public as `Lock` is.
public struct RecordWriter: Sendable {
    @usableFromInline package internal(set) var bytes: [UInt8] = []

    package init() {}

    /// As many bytes as the type has.
    @inlinable public mutating func integer(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// A 16-bit length, then the bytes. Names, versions and keys are all far shorter than 64 KiB; the rest is cut off.
    package mutating func bytes(_ value: ByteString) {
        integer(UInt16(truncatingIfNeeded: min(value.count, Int(UInt16.max))))
        bytes.append(contentsOf: value.bytes.prefix(Int(UInt16.max)))
    }

    /// A 32-bit length, then the bytes; fewer than 4 GiB.
    package mutating func counted(_ value: [UInt8]) {
        integer(UInt32(value.count))
        bytes.append(contentsOf: value)
    }

    package mutating func time(_ value: FileTime) {
        integer(value.seconds)
        integer(value.nanoseconds)
    }

    /// Whether there is a value, then the value.
    @inlinable public mutating func optional<Value>(_ value: Value?, _ write: (inout RecordWriter, Value) -> Void) {
        integer(value == nil ? 0 as UInt8 : 1)
        if let value { write(&self, value) }
    }
}

/// Reads what `RecordWriter` wrote, from bytes that may be damaged or hostile: every method returns nil rather than read
/// past the end, and nothing is allocated for a length that the bytes do not have.
public struct RecordReader {
    @usableFromInline let buffer: UnsafeRawBufferPointer
    @usableFromInline var offset = 0

    /// - Parameter buffer: must outlive the reader.
    package init(_ buffer: UnsafeRawBufferPointer) { self.buffer = buffer }

    /// Whether all was read. A record with bytes behind its last field is not one that was written.
    package var isAtEnd: Bool { offset == buffer.count }

    /// What was written of this type; nil at the end.
    @inlinable public mutating func integer<Value: FixedWidthInteger>(_: Value.Type) -> Value? {
        let size = MemoryLayout<Value>.size
        guard buffer.count - offset >= size else { return nil }
        defer { offset += size }
        return Value(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }

    package mutating func bytes() -> ByteString? {
        guard let count = integer(UInt16.self) else { return nil }
        return take(Int(count)).map { ByteString($0) }
    }

    /// nil also for a length above `limit`.
    package mutating func counted(limit: Int) -> [UInt8]? {
        guard let count = integer(UInt32.self), Int(count) <= limit else { return nil }
        return take(Int(count)).map { Array($0) }
    }

    package mutating func time() -> FileTime? {
        guard let seconds = integer(Int64.self), let nanoseconds = integer(UInt32.self) else { return nil }
        return FileTime(seconds: seconds, nanoseconds: nanoseconds)
    }

    /// `.some(nil)` for an absent value, nil for damage.
    @inlinable public mutating func optional<Value>(_ read: (inout RecordReader) -> Value?) -> Value?? {
        switch integer(UInt8.self) {
        case 0: return .some(nil)
        case 1: return read(&self).map { .some($0) }
        default: return nil
        }
    }

    private mutating func take(_ count: Int) -> Slice<UnsafeRawBufferPointer>? {
        guard buffer.count - offset >= count else { return nil }
        defer { offset += count }
        return buffer[offset..<offset + count]
    }
}
