import BlockMaps
import Logging
import Platform
import Synchronization
import SystemPackage

/// One tier: what its directory holds against its quota, which extent goes next, and whether it works.
///
/// Bytes are those of blocks, each rounded up to 4 KiB. A fetch reserves its bytes before they arrive; each block that
/// arrives turns its share into use. Decisions here, effects (punching, removing) in `Engine`.
final class Tier: Sendable {
    struct State: Sendable {
        var used: UInt64
        var reserved: UInt64 = 0
        var pinned: UInt64 = 0
        var files: UInt64
        var policy: S3FIFOPolicy
        var health = CacheStatistics.Tier.State.ok
        var waiting: [(bytes: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
        var isEvicting = false
        /// Between crossing the high and reaching the low watermark.
        var isDraining = false
        var hits: UInt64 = 0
        var misses: UInt64 = 0
        var evictions: UInt64 = 0
        var evictedBytes: UInt64 = 0
        var demotions: UInt64 = 0
        var promotions: UInt64 = 0
    }

    /// Its place in the order of tiers.
    let number: Int
    /// Tells the files of this run of the coordinator from those that were there before, whose readers it does not know: a
    /// mount may read them by a block map that nobody writes any more.
    let run = UInt64.random(in: 1...UInt64.max)
    let configuration: TierConfiguration
    let directory: TierDirectory
    let highMark, lowMark, pinLimit: UInt64
    let logger: Logger
    let state: Lock<State>
    /// The disk has failed in the life of this process.
    let isDistrusted = Atomic(false)
    /// Evicts and probes.
    let worker: WorkerThread

    init(
        number: Int, configuration: TierConfiguration, directory: TierDirectory, usage: TierUsage,
        cache: CacheConfiguration, logger: Logger
    ) {
        self.number = number
        self.configuration = configuration
        self.directory = directory
        let share = { UInt64(Double(configuration.quota) * $0) }
        highMark = share(cache.highWatermark)
        lowMark = share(cache.lowWatermark)
        pinLimit = share(cache.passthroughShare)
        var logger = logger
        logger[metadataKey: "tier"] = "\(configuration.path)"
        self.logger = logger
        state = Lock(State(used: usage.bytes, files: usage.files, policy: S3FIFOPolicy(capacity: configuration.quota)))
        worker = WorkerThread(name: "cache-evict-\(number)")
    }

    var identity: UInt64 { directory.identity }

    /// Bytes that a range of blocks takes.
    static func weight(of blocks: Range<Int>, _ geometry: BlockGeometry) -> UInt64 {
        let bytes = geometry.bytes(of: blocks)
        return (bytes.upperBound - bytes.lowerBound + 4095) & ~4095
    }

    /// Whether present blocks may be read.
    var isReadable: Bool { state.withLock { if case .failed = $0.health { false } else { true } } }
    /// Whether new blocks may be written.
    var isWritable: Bool { state.withLock { $0.health == .ok } }

    // MARK: What the files hold

    /// A reserved block has arrived.
    func settle(_ extent: ExtentID, bytes: UInt64) {
        state.withLock {
            $0.reserved -= min(bytes, $0.reserved)
            $0.used += bytes
            $0.policy.update(extent, weight: ($0.policy.weight(of: extent) ?? 0) + bytes)
        }
    }

    /// What an opened file holds beyond (or below) what the index said of it.
    func correct(from recorded: UInt64, to actual: UInt64) {
        state.withLock { $0.used = $0.used + actual - min(recorded, $0.used + actual) }
    }

    /// Tells the policy of an extent that was there before this start. A guess does not replace what is known.
    func restore(_ extent: ExtentID, weight: UInt64, frequency: UInt8, isExact: Bool) {
        state.withLock {
            if $0.policy.weight(of: extent) != nil {
                if isExact { $0.policy.update(extent, weight: weight) }
            } else if frequency > 0 {
                $0.policy.reinstate(extent, weight: weight)
            } else {
                $0.policy.update(extent, weight: weight)
            }
        }
    }

    /// Blocks of an extent are gone; `remaining` bytes of it stay.
    func remove(_ extent: ExtentID, bytes: UInt64, remaining: UInt64) {
        state.withLock {
            $0.used -= min(bytes, $0.used)
            $0.policy.update(extent, weight: remaining)
        }
    }

    func adjustFiles(by difference: Int) {
        state.withLock { $0.files = UInt64(max(0, Int($0.files) + difference)) }
    }

    func noteAccess(_ digest: ObjectDigest, _ range: Range<UInt64>) {
        state.withLock { state in
            for index in ExtentID.indices(of: range) {
                let start = UInt64(index) * ExtentID.size
                let part = max(range.lowerBound, start) - start..<min(range.upperBound, start + ExtentID.size) - start
                state.policy.access(ExtentID(digest: digest, index: index), range: part)
            }
        }
    }

    func noteLookup(hit: Bool) { state.withLock { if hit { $0.hits += 1 } else { $0.misses += 1 } } }

    // MARK: What may not be evicted

    /// Whether `bytes` may be kept from eviction, within the share for that.
    func pin(_ bytes: UInt64) -> Bool {
        state.withLock {
            guard $0.pinned + bytes <= pinLimit else { return false }
            $0.pinned += bytes
            return true
        }
    }

    func unpin(_ bytes: UInt64) { state.withLock { $0.pinned -= min(bytes, $0.pinned) } }

    func statistics() -> CacheStatistics.Tier {
        state.withLock {
            CacheStatistics.Tier(
                path: configuration.path, kind: configuration.kind, state: $0.health, used: $0.used,
                quota: configuration.quota, pinned: $0.pinned, files: $0.files, extents: $0.policy.count, hits: $0.hits,
                misses: $0.misses, evictions: $0.evictions, evictedBytes: $0.evictedBytes, demotions: $0.demotions,
                promotions: $0.promotions)
        }
    }
}
