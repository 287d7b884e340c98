import Synchronization

extension BlockCache {
    /// Counters and levels now. Any thread; does not block on the disk.
    package func statistics() -> CacheStatistics {
        let counters = engine.counters
        let (running, queued) = engine.scheduler.counts
        return CacheStatistics(
            tiers: engine.tiers.map { $0.statistics() },
            fetches: counters.fetches.load(ordering: .relaxed),
            failedFetches: counters.failedFetches.load(ordering: .relaxed),
            droppedPrefetchErrors: counters.droppedPrefetchErrors.load(ordering: .relaxed),
            bytesFetched: counters.bytesFetched.load(ordering: .relaxed),
            bytesAsked: counters.bytesAsked.load(ordering: .relaxed),
            bytesCoalesced: counters.bytesCoalesced.load(ordering: .relaxed),
            bytesReadThrough: counters.bytesReadThrough.load(ordering: .relaxed),
            damagedBlocks: counters.damagedBlocks.load(ordering: .relaxed),
            fetchesInFlight: running, fetchesQueued: queued, openObjects: engine.liveCount,
            isRestoring: engine.isRestoring)
    }
}

/// What is cached of an object.
package struct CachePresence: Hashable, Sendable {
    /// Bytes present, to whole blocks.
    package let bytes: UInt64
    package let isComplete: Bool
    /// nil when nothing is cached.
    package let tierPath: String?
}
