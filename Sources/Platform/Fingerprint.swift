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
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
        crc32c = CRC32C.continuing(crc32c, with: bytes)
        crc64 = crc64_ecma_refl(crc64, base, UInt64(bytes.count))
        length += UInt64(bytes.count)
    }
}

extension CRC32C {
    /// The CRC32C of some bytes of which `value` is that of the first, and `bytes` are the rest.
    package static func continuing(_ value: UInt32, with bytes: UnsafeRawBufferPointer) -> UInt32 {
        var pointer = UnsafeMutablePointer(mutating: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
        var remaining = bytes.count
        var state = ~value
        while remaining > 0 {
            let step = min(remaining, Int(Int32.max))
            state = crc32_iscsi(pointer, Int32(step), state)
            pointer = pointer.map { $0 + step }
            remaining -= step
        }
        return ~state
    }
}
