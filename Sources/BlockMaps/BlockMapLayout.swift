import Platform

/// Where the fields of a block map lie, in memory and in its file. All numbers are little-endian.
///
///     0   magic "LARDRMAP"      40  object digest, 16 bytes      72  state flags (atomic u64), reserved, 0
///     8   format version u32    56  reserved u32, 0              80  reserved up to 128, 0
///     12  header size u32, 128  60  CRC32C of bytes 0..<60       128 presence, one bit per block (atomic u64 words)
///     16  block size u32        64  eviction epoch (atomic u64)      then the CRC32C of each block, u32
///     20  reserved u32, 0
///     24  object size u64
///     32  block count u64
///
/// The size of the file follows from the block count and is checked exactly.
package struct BlockMapLayout: Hashable, Sendable {
    package static let magic: UInt64 = 0x5041_4D52_4452_414C  // "LARDRMAP" in memory
    package static let formatVersion: UInt32 = 1
    package static let headerSize = 128
    static let immutableSize = 60
    static let checksumOffset = 60
    static let epochOffset = 64

    package let geometry: BlockGeometry

    package init(_ geometry: BlockGeometry) { self.geometry = geometry }

    package var wordCount: Int { (geometry.blockCount + 63) / 64 }
    package var presenceOffset: Int { Self.headerSize }
    package var checksumsOffset: Int { presenceOffset + wordCount * 8 }
    /// Bytes of the whole map.
    package var fileSize: Int { checksumsOffset + (geometry.blockCount * 4 + 7) / 8 * 8 }

    /// The first 128 bytes of a new map.
    package func header(digest: ObjectDigest) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Self.headerSize)
        bytes.withUnsafeMutableBytes { header in
            header.storeBytes(of: Self.magic.littleEndian, toByteOffset: 0, as: UInt64.self)
            header.storeBytes(of: Self.formatVersion.littleEndian, toByteOffset: 8, as: UInt32.self)
            header.storeBytes(of: UInt32(Self.headerSize).littleEndian, toByteOffset: 12, as: UInt32.self)
            header.storeBytes(of: UInt32(geometry.blockSize).littleEndian, toByteOffset: 16, as: UInt32.self)
            header.storeBytes(of: geometry.objectSize.littleEndian, toByteOffset: 24, as: UInt64.self)
            header.storeBytes(of: UInt64(geometry.blockCount).littleEndian, toByteOffset: 32, as: UInt64.self)
            header[40..<56].copyBytes(from: digest.bytes)
            let checksum = CRC32C.of(UnsafeRawBufferPointer(rebasing: header[..<Self.immutableSize]))
            header.storeBytes(of: checksum.littleEndian, toByteOffset: Self.checksumOffset, as: UInt32.self)
        }
        return bytes
    }

    /// Checks the first 128 bytes of a map of `fileSize` bytes, which may be hostile.
    package static func decode(
        _ header: UnsafeRawBufferPointer, fileSize: UInt64
    ) throws(BlockMapError) -> (layout: BlockMapLayout, digest: ObjectDigest) {
        guard header.count >= headerSize, fileSize >= UInt64(headerSize) else {
            throw .malformed("\(fileSize) bytes are shorter than the header")
        }
        let u32 = { UInt32(littleEndian: header.loadUnaligned(fromByteOffset: $0, as: UInt32.self)) }
        let u64 = { UInt64(littleEndian: header.loadUnaligned(fromByteOffset: $0, as: UInt64.self)) }
        guard u64(0) == magic else { throw .malformed("wrong magic") }
        guard u32(8) <= formatVersion else { throw .unsupportedVersion(u32(8)) }
        let checksum = CRC32C.of(UnsafeRawBufferPointer(rebasing: header[..<immutableSize]))
        guard u32(checksumOffset) == checksum else { throw .malformed("header checksum") }
        guard u32(8) == formatVersion, u32(12) == UInt32(headerSize), u32(20) == 0, u32(56) == 0 else {
            throw .malformed("header fields")
        }
        guard let geometry = BlockGeometry(objectSize: u64(24), blockSize: Int(u32(16))) else {
            throw .malformed("object size \(u64(24)) with block size \(u32(16))")
        }
        let layout = BlockMapLayout(geometry)
        guard u64(32) == UInt64(geometry.blockCount) else { throw .malformed("block count \(u64(32))") }
        guard fileSize == UInt64(layout.fileSize) else {
            throw .malformed("\(fileSize) bytes, expected \(layout.fileSize)")
        }
        guard let digest = ObjectDigest(bytes: header[40..<56]) else { throw .malformed("digest") }
        return (layout, digest)
    }
}
