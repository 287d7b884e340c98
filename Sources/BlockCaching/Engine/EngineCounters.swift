import Synchronization

/// Counters since start; see `CacheStatistics`.
final class EngineCounters: Sendable {
    let fetches = Atomic<UInt64>(0)
    let failedFetches = Atomic<UInt64>(0)
    let droppedPrefetchErrors = Atomic<UInt64>(0)
    let bytesFetched = Atomic<UInt64>(0)
    let bytesAsked = Atomic<UInt64>(0)
    let bytesCoalesced = Atomic<UInt64>(0)
    let bytesReadThrough = Atomic<UInt64>(0)
    let damagedBlocks = Atomic<UInt64>(0)
}
