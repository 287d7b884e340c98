/// Counters since start and levels now, for status and metrics.
package struct CacheStatistics: Sendable {
    package struct Tier: Sendable {
        package enum State: Hashable, Sendable {
            case ok
            /// Readable, but takes nothing new.
            case full(String)
            /// Out of use.
            case failed(String)
        }
        package var path: String
        package var kind: TierConfiguration.Kind
        package var state: State
        /// Bytes.
        package var used: UInt64
        package var quota: UInt64
        /// Bytes that loans keep from eviction.
        package var pinned: UInt64
        /// Cache files.
        package var files: UInt64
        /// Extents known to the eviction policy.
        package var extents: Int
        /// `ensure` calls answered from this tier, and not.
        package var hits: UInt64
        package var misses: UInt64
        /// Extents dropped and their bytes; objects moved to another tier are not among them.
        package var evictions: UInt64
        package var evictedBytes: UInt64
        package var demotions: UInt64
        package var promotions: UInt64
    }

    package var tiers: [Tier]
    package var fetches: UInt64
    package var failedFetches: UInt64
    /// Errors of prefetches, which nobody was told of.
    package var droppedPrefetchErrors: UInt64
    /// Bytes received from sources.
    package var bytesFetched: UInt64
    /// Bytes that readers and prefetches asked for.
    package var bytesAsked: UInt64
    /// Bytes that were asked for while another fetch was already bringing them.
    package var bytesCoalesced: UInt64
    /// Bytes delivered past the cache.
    package var bytesReadThrough: UInt64
    /// Blocks whose bytes did not match their checksum and were dropped.
    package var damagedBlocks: UInt64
    package var fetchesInFlight: Int
    package var fetchesQueued: Int
    /// Handles in memory.
    package var openObjects: Int
    /// Whether the queues of the eviction policy are still being filled after a start.
    package var isRestoring: Bool
}
