import BlockMaps
import Platform

/// One tier: a directory and how much of its file system may be used.
package struct TierConfiguration: Sendable {
    package enum Kind: String, Sendable {
        /// A directory on tmpfs.
        case ram
        case disk
    }

    package var path: String
    package var kind: Kind
    /// Bytes of cached data.
    package var quota: UInt64
    /// What must stay free on the file system, whatever the quota says.
    package var floorFreeBytes: UInt64
    package var floorFreeInodes: UInt64

    package init(
        path: String, kind: Kind, quota: UInt64, floorFreeBytes: UInt64 = 0, floorFreeInodes: UInt64 = 0
    ) {
        self.path = path
        self.kind = kind
        self.quota = quota
        self.floorFreeBytes = floorFreeBytes
        self.floorFreeInodes = floorFreeInodes
    }
}

package struct CacheConfiguration: Sendable {
    /// Fastest first; data enters the first that admits it.
    package var tiers: [TierConfiguration]
    /// Of new cache files: a power of two, 4 KiB…1 MiB. Existing files keep theirs.
    package var blockSize = BlockGeometry.defaultBlockSize
    /// Where the index lies; nil: `index` in the first disk tier, or in the first tier where all are RAM.
    package var indexDirectory: String?
    /// Tells one boot from the next; tests inject it.
    package var bootIdentifier = Machine.bootIdentifier()
    /// Shares of a tier's quota, 0…1: eviction starts above `high` and goes on to `low`.
    package var highWatermark = 0.95
    package var lowWatermark = 0.85
    /// The share of a tier's quota that whole-file and passthrough loans may keep from eviction.
    package var passthroughShare = 0.8
    /// Fetches that run at once, over all objects; prefetches use three quarters of them at most.
    package var maximumFetches = 32
    /// The longest fetch in bytes; longer gaps are fetched by several, in parallel.
    package var maximumFetchSize = 16 << 20
    /// Bytes in flight past the cache, when no tier can take them.
    package var readThroughBudget = 256 << 20
    /// How long a failed or full tier rests before it is tried again.
    package var probeInterval: Duration = .seconds(15)
    /// How long changes gather before the index is written.
    package var flushInterval: Duration = .milliseconds(100)
    /// Accesses after which an object moves to a faster tier; 0 never.
    package var promotionHits = 3

    package init(tiers: [TierConfiguration]) { self.tiers = tiers }

    func validate() throws(CacheError) {
        guard !tiers.isEmpty else { throw .configuration("the cache has no tier; give it a directory") }
        guard Set(tiers.map(\.path)).count == tiers.count else {
            throw .configuration("two cache tiers share one directory; give each its own")
        }
        guard BlockGeometry(objectSize: 0, blockSize: blockSize) != nil else {
            throw .configuration("block size \(blockSize) is not a power of two from 4 KiB to 1 MiB")
        }
        guard 0 < lowWatermark, lowWatermark <= highWatermark, highWatermark <= 1 else {
            throw .configuration("watermarks must be 0 < low ≤ high ≤ 1")
        }
        guard maximumFetches > 0, maximumFetchSize >= blockSize else {
            throw .configuration("fetch limits must admit one fetch of one block")
        }
    }
}
