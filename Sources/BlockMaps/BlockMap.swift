import Platform
import Synchronization
import SystemPackage

/// The block map of a cache file, as its only writer sees it: which blocks are present, and their CRC32C.
///
/// It lives in a sealed memfd that readers map (`BlockMapReader`), and is saved to a file beside the cache file with
/// `save`: a failing disk then gives an error to the coordinator, never a SIGBUS to a reader.
/// Any thread may read; the caller lets one thread at a time write.
package final class BlockMap: Sendable {
    /// To lend to readers; nobody can write through it or resize it.
    package let descriptor: Descriptor
    package let layout: BlockMapLayout
    package let digest: ObjectDigest
    let region: MappedRegion
    let bits: PresenceBits

    package var geometry: BlockGeometry { layout.geometry }

    /// An empty map. Throws ENOMEM, EMFILE, ….
    package init(_ geometry: BlockGeometry, digest: ObjectDigest) throws(Errno) {
        layout = BlockMapLayout(geometry)
        self.digest = digest
        descriptor = try Descriptor.sealableMemory(named: "larder-map", size: UInt64(layout.fileSize))
        region = try MappedRegion(descriptor, count: layout.fileSize, writable: true)
        try descriptor.sealForReaders()
        UnsafeMutableRawBufferPointer(start: region.base, count: BlockMapLayout.headerSize)
            .copyBytes(from: layout.header(digest: digest))
        bits = PresenceBits(base: region.base + layout.presenceOffset, count: geometry.blockCount)
    }

    private var epochWord: UnsafeMutablePointer<Atomic<UInt64>> {
        (region.base + BlockMapLayout.epochOffset).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    var checksums: UnsafeMutablePointer<UInt32> {
        (region.base + layout.checksumsOffset).assumingMemoryBound(to: UInt32.self)
    }

    /// The eviction epoch: moves with every `clear`.
    package var epoch: UInt64 { epochWord.pointee.load(ordering: .acquiring) }

    package func isPresent(_ block: Int) -> Bool { bits.isSet(block) }
    package func firstAbsent(in blocks: Range<Int>) -> Int? { bits.first(in: blocks, thatIs: false) }
    package func firstPresent(in blocks: Range<Int>) -> Int? { bits.first(in: blocks, thatIs: true) }
    /// How many of `blocks` are present.
    package func presentCount(in blocks: Range<Int>) -> Int { bits.countSet(in: blocks) }
    package var isComplete: Bool { firstAbsent(in: 0..<geometry.blockCount) == nil }

    /// Bytes held by the present blocks among `blocks`.
    package func presentBytes(in blocks: Range<Int>) -> UInt64 {
        guard !blocks.isEmpty else { return 0 }
        var bytes = UInt64(presentCount(in: blocks)) * UInt64(geometry.blockSize)
        let last = blocks.upperBound - 1
        if last == geometry.blockCount - 1, isPresent(last) {
            bytes -= UInt64(geometry.blockSize - geometry.length(of: last))
        }
        return bytes
    }
    package var presentBytes: UInt64 { presentBytes(in: 0..<geometry.blockCount) }

    /// The CRC32C that a present (or suspect) block must have.
    package func checksum(of block: Int) -> UInt32 { UInt32(littleEndian: checksums[block]) }

    /// Publishes a block whose bytes are in the cache file. Returns whether it was absent.
    @discardableResult
    package func markPresent(_ block: Int, checksum: UInt32) -> Bool {
        checksums[block] = checksum.littleEndian
        return bits.set(block)
    }

    /// Withdraws blocks; only afterwards may the caller punch or overwrite their bytes. Returns how many were present.
    ///
    /// Bits are cleared before the epoch moves, so that a reader who sees the new epoch also sees the cleared bits.
    @discardableResult
    package func clear(_ blocks: Range<Int>) -> Int {
        let cleared = bits.clear(blocks)
        epochWord.pointee.wrappingAdd(1, ordering: .sequentiallyConsistent)
        return cleared
    }
}
