import CISAL

/// CRC32C (Castagnoli, RFC 3720 appendix B.4), computed with the processor's instructions by ISA-L.
package struct CRC32C: Sendable {
    private var state: UInt32 = ~0

    package init() {}

    /// Adds bytes; feeding a block in pieces gives the same value as feeding it whole.
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var pointer = UnsafeMutablePointer(mutating: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
        var remaining = bytes.count
        while remaining > 0 {
            let step = min(remaining, Int(Int32.max))  // ISA-L takes a signed 32-bit length
            state = crc32_iscsi(pointer, Int32(step), state)
            pointer = pointer.map { $0 + step }
            remaining -= step
        }
    }

    package var value: UInt32 { ~state }

    package static func of(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(bytes)
        return checksum.value
    }
}
