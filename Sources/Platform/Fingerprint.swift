import CISAL

/// Tells whether bytes are the same as before: their CRC32C and their CRC-64 (ECMA-182, reflected).
///
/// CRC32C alone would not do: pages that each end in their own CRC32C, as some file formats have them, all have the same
/// CRC32C whatever they hold. No page ends in both.
package struct Fingerprint: Hashable, Sendable {
    package private(set) var crc32c: UInt32
    package private(set) var crc64: UInt64
    /// Bytes.
    package private(set) var length: UInt64

    package init(crc32c: UInt32, crc64: UInt64, length: UInt64) {
        self.crc32c = crc32c
        self.crc64 = crc64
        self.length = length
    }

    /// Of no bytes.
    package init() { self.init(crc32c: 0, crc64: 0, length: 0) }

    /// Adds bytes at the end.
    package mutating func update(_ bytes: UnsafeRawBufferPointer) { update(bytes, crc32c: CRC32C.of(bytes)) }

    /// Adds bytes at the end, whose CRC32C the caller has.
    package mutating func update(_ bytes: UnsafeRawBufferPointer, crc32c value: UInt32) {
        guard let base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
        crc32c = CRC32C.joining(crc32c, value, count: UInt64(bytes.count))
        crc64 = crc64_ecma_refl(crc64, base, UInt64(bytes.count))
        length += UInt64(bytes.count)
    }
}
