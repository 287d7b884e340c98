import Platform
import Synchronization
import SystemPackage

/// A mount process's view of the block map of a cache file that it was lent.
///
/// A read of the cache file is proven by this order, all without a message, a lock or an allocation:
/// `epoch()`, then `isPresent`, then pread(2), then `isUnchanged(since:)`. The blocks of one version never change, and
/// the coordinator clears bits, then moves the epoch, then punches: a bit that was set while no eviction ran in between
/// proves the bytes. When the epoch has moved, start again.
///
/// The map must be sealed against shrinking (`BlockMap` seals its own), so that touching it cannot raise SIGBUS.
package final class BlockMapReader: Sendable {
    private let region: MappedRegion
    private let bits: PresenceBits
    package let geometry: BlockGeometry
    package let digest: ObjectDigest

    /// Maps and checks a block map whose bytes may be hostile. The descriptor may be closed afterwards.
    package init(_ descriptor: Descriptor) throws(BlockMapError) {
        guard descriptor.cannotShrink else { throw .malformed("not sealed against shrinking") }
        do {
            let size = try descriptor.status().size
            guard size >= UInt64(BlockMapLayout.headerSize), size <= UInt64(Int.max) else {
                throw BlockMapError.malformed("\(size) bytes are shorter than the header")
            }
            region = try MappedRegion(descriptor, count: Int(size), writable: false)
            // The header is decoded from a copy: the writer could change it between check and use.
            let copy = Array(UnsafeRawBufferPointer(start: region.base, count: BlockMapLayout.headerSize))
            let (layout, digest) = try copy.withUnsafeBytes { (bytes) throws(BlockMapError) in
                try BlockMapLayout.decode(bytes, fileSize: size)
            }
            geometry = layout.geometry
            self.digest = digest
            bits = PresenceBits(base: region.base + layout.presenceOffset, count: layout.geometry.blockCount)
        } catch let error as BlockMapError {
            throw error
        } catch let error as Errno {
            throw .system(error)
        } catch {
            throw .malformed("\(error)")
        }
    }

    package var blockSize: Int { geometry.blockSize }
    package var objectSize: UInt64 { geometry.objectSize }

    /// The eviction epoch, before testing bits. Any thread.
    @inline(__always)
    package func epoch() -> UInt64 {
        (region.base + BlockMapLayout.epochOffset).assumingMemoryBound(to: Atomic<UInt64>.self).pointee
            .load(ordering: .acquiring)
    }

    /// Whether no eviction ran since `epoch` was read: what was present then was still whole when it was read. Any
    /// thread.
    @inline(__always)
    package func isUnchanged(since epoch: UInt64) -> Bool {
        // The loads of the copied data must come before the load of the epoch.
        atomicMemoryFence(ordering: .acquiring)
        return self.epoch() == epoch
    }

    /// Whether no byte of the object is present. Any thread.
    package var isEmpty: Bool { bits.first(in: 0..<geometry.blockCount, thatIs: true) == nil }

    /// Whether every byte of the range is present; bytes past the end of the object count as present. Any thread.
    package func isPresent(offset: UInt64, length: Int) -> Bool {
        presentPrefix(from: offset, limit: length) == max(length, 0)
    }

    /// How many bytes from `offset` on are present without a gap, at most `limit`; those past the end of the object
    /// count as present. Any thread.
    package func presentPrefix(from offset: UInt64, limit: Int) -> Int {
        guard limit > 0, offset < geometry.objectSize else { return max(limit, 0) }
        let end = offset + min(UInt64(limit), geometry.objectSize - offset)
        let blocks = geometry.block(at: offset)..<geometry.block(at: end - 1) + 1
        guard let gap = bits.first(in: blocks, thatIs: false) else { return limit }
        let start = UInt64(gap) << UInt64(geometry.blockSize.trailingZeroBitCount)
        return start <= offset ? 0 : Int(start - offset)
    }
}
