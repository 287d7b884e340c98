import BlockMaps
import Platform

/// A handle on one object version in the cache. Handles on one id share everything.
///
/// A mount process reads through a loan; what its block map does not show it asks for with `ensure`, and reads again.
/// When bytes keep vanishing under pressure, or reading the cache file fails, `readThrough` delivers them in any case.
package final class CachedObject: Sendable {
    private let entry: CacheEntry

    init(_ entry: CacheEntry) { self.entry = entry }

    deinit { entry.engine.release(entry) }

    package var id: CachedObjectID { entry.id }
    package var digest: ObjectDigest { entry.digest }

    /// Whether every block is present and verified.
    package var isComplete: Bool { entry.state.withLock { entry.isComplete($0) } }
    /// Bytes of present blocks; blocks that a restart has yet to verify do not count.
    package var presentBytes: UInt64 {
        entry.state.withLock { state in state.file.map { $0.map.presentBytes } ?? 0 }
    }
    /// The directory of the tier that holds the cache file; nil while there is none.
    package var tierPath: String? { entry.state.withLock { $0.file?.tier.configuration.path } }
    /// Bytes; what `ensure` rounds to.
    package var blockSize: Int { entry.geometry?.blockSize ?? entry.engine.configuration.blockSize }

    /// Returns when every byte of `range` (clipped to the object) can be read: from the cache file, or from the memory
    /// that the delivery holds.
    ///
    /// Fetches exactly the absent blocks, each once however many ask; waits for no other. Throws what the source threw,
    /// to those who waited for that fetch only; the next call tries again. Cancelling the task ends the wait, and the
    /// fetch where nobody else waits. Presence is no promise: eviction may take blocks again before they are read.
    package func ensure(_ range: Range<UInt64>, urgency: FetchUrgency = .demand) async throws -> Delivery {
        try await entry.ensure(range, urgency: urgency)
    }

    /// Starts fetching what is absent of `range` behind all demands, and returns at once. Errors are counted only;
    /// without room in any tier nothing is fetched. Any thread; does not block.
    package func prefetch(_ range: Range<UInt64>) {
        withExtendedLifetime(self) { entry.prefetch(range) }
    }

    /// The bytes of `range` (clipped to the object) in memory, whatever the state of the cache; nil when the range is
    /// empty. For readers whose blocks vanish faster than they can read them, or whose read of the cache file failed.
    package func readThrough(_ range: Range<UInt64>) async throws -> ReadThrough? { try await entry.readThrough(range) }

    /// Lends the cache file: with its block map, whose blocks may be evicted under the reader; or without, when the
    /// file is complete and fits the share of the tier that loans may keep from eviction. Throws `CacheError.noTier`
    /// when no tier can hold the file: use `readThrough`. Blocks on the disk.
    package func loan() throws -> BlockLoan { try withExtendedLifetime(self) { try entry.loan() } }

    /// Lends a complete, verified file for FUSE passthrough: it is not evicted while lent. nil when it is not complete,
    /// not verified yet in this boot (a `loan` starts that), or over the share. Blocks on the disk.
    package func passthroughLoan() throws -> BlockLoan? {
        try withExtendedLifetime(self) { try entry.passthroughLoan() }
    }

    /// Tells the eviction policy what readers of loans have read since the last call. Any thread; does not block.
    package func recordAccess(_ range: Range<UInt64>) {
        let range = range.clamped(to: 0..<entry.id.size)
        guard !range.isEmpty else { return }
        entry.state.withLock { $0.file?.tier }?.noteAccess(entry.digest, range)
    }
}
