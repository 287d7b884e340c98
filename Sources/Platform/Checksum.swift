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

extension CRC32C {
    // Polynomials over GF(2) in 32 bits, the highest bit for the lowest power.
    private static let one: UInt32 = 1 << 31
    private static let modulus: UInt32 = 0x82F6_3B78

    /// The CRC32C of some bytes and `count` others behind them, made of the CRC32C of either: the first is multiplied by
    /// x^(8·count), as if zeros were appended, and the second added.
    package static func joining(_ first: UInt32, _ second: UInt32, count: UInt64) -> UInt32 {
        var (power, left, factor) = (one >> 8, count, one)
        while left > 0, first != 0 {
            if left & 1 == 1 { factor = multiply(factor, power) }
            power = multiply(power, power)
            left >>= 1
        }
        return multiply(factor, first) ^ second
    }

    private static func multiply(_ left: UInt32, _ right: UInt32) -> UInt32 {
        var (product, rest, shifted): (UInt32, UInt32, UInt32) = (0, left, right)
        while rest != 0 {
            if rest & one != 0 { product ^= shifted }
            rest <<= 1
            shifted = shifted >> 1 ^ (shifted & 1 == 1 ? modulus : 0)
        }
        return product
    }
}
