/// How the bytes of an object divide into blocks: all of `blockSize` but the last, which may be shorter.
package struct BlockGeometry: Hashable, Sendable {
    /// 4 KiB…1 MiB, a power of two.
    package static let blockSizes = (4 << 10)...(1 << 20)
    package static let defaultBlockSize = 128 << 10
    /// Bounds the size of a map to about 2 GiB: 64 TiB objects at the default block size.
    package static let maximumBlockCount = 1 << 29

    /// Bytes of the object.
    package let objectSize: UInt64
    package let blockSize: Int
    package let blockCount: Int

    /// nil when the block size is out of range or the object would have too many blocks.
    package init?(objectSize: UInt64, blockSize: Int) {
        guard Self.blockSizes.contains(blockSize), blockSize & (blockSize - 1) == 0 else { return nil }
        let size = UInt64(blockSize)
        let count = objectSize / size + (objectSize % size == 0 ? 0 : 1)
        guard count <= UInt64(Self.maximumBlockCount) else { return nil }
        self.objectSize = objectSize
        self.blockSize = blockSize
        blockCount = Int(count)
    }

    @inline(__always)
    package func block(at offset: UInt64) -> Int {
        Int(truncatingIfNeeded: offset >> UInt64(blockSize.trailingZeroBitCount))
    }

    /// The blocks that hold some byte of `range`; bytes past the end of the object have none.
    package func blocks(covering range: Range<UInt64>) -> Range<Int> {
        let end = min(range.upperBound, objectSize)
        guard range.lowerBound < end else { return 0..<0 }
        return block(at: range.lowerBound)..<block(at: end - 1) + 1
    }

    /// The bytes that `blocks` (within 0…blockCount) hold.
    package func bytes(of blocks: Range<Int>) -> Range<UInt64> {
        let end = min(UInt64(blocks.upperBound) * UInt64(blockSize), objectSize)
        return min(UInt64(blocks.lowerBound) * UInt64(blockSize), end)..<end
    }

    /// Bytes in one block.
    package func length(of block: Int) -> Int {
        let bytes = bytes(of: block..<block + 1)
        return Int(bytes.upperBound - bytes.lowerBound)
    }
}
