import BlockMaps
import Platform
import Synchronization

/// What the cache knows of one object version while someone has it open or something about it must be saved.
///
/// Lock order: `io`, then the engine's table, then `state`, then a tier's. Nothing waits, calls out or touches a file
/// under `state`.
final class CacheEntry: Sendable {
    struct State {
        var isLoaded = false
        var source: (any BlockSource)?
        /// Fixed when the entry is loaded; nil for an object too large to be cached.
        var geometry: BlockGeometry?
        var file: BlockFile?
        /// Blocks on the disk that must be verified before they may be served; they are not present in the map.
        var suspects: BlockSet?
        var presentBlocks = 0
        /// What the tier counts for this object's blocks.
        var occupied: UInt64 = 0
        /// Blocks whose bits differ from the saved map.
        var unsaved: Range<Int>?
        /// The record in the index: its tier and bytes; nil when there is none.
        var recorded: (tier: UInt64, bytes: UInt64)?
        var isDirty = false
        /// In flight, ascending and disjoint in what they still bring.
        var fetches: [Fetch] = []
        var mapLoans = 0
        var wholeLoans = 0
        /// The file is or was complete, and a reader that nobody knows of any more may have it without a block map.
        var mayBeLentWhole = false
        /// What the tier keeps from eviction for the whole loans.
        var pinned: UInt64 = 0
        /// Withdrawn blocks whose bytes are being punched: they must not be written meanwhile.
        var punching: Range<Int>?
        var punchWaiters: [CheckedContinuation<Void, Never>] = []
        /// Moves with whatever a copy to another tier must not miss.
        var generation: UInt64 = 0
        var hits = 0
        var frequency: UInt8 = 0
        var isVerifying = false
        /// Room for it in a faster tier is being made.
        var isPromoting = false
        /// A copy to another tier is being made, under `io` and perhaps for long.
        var isMoving = false

        var suspectCount: Int { suspects?.count ?? 0 }
        var isInUse: Bool { mapLoans > 0 || wholeLoans > 0 || !fetches.isEmpty }
    }

    let id: CachedObjectID
    let digest: ObjectDigest
    let engine: Engine
    /// Serialises work on the entry's files: opening, evicting, verifying, moving, saving.
    let io = Lock<Void>(())
    let state = Lock(State())

    init(id: CachedObjectID, digest: ObjectDigest, engine: Engine) {
        self.id = id
        self.digest = digest
        self.engine = engine
    }

    var geometry: BlockGeometry? { state.withLock { $0.geometry } }

    func isComplete(_ state: State) -> Bool {
        guard let file = state.file else { return false }
        return state.presentBlocks == file.geometry.blockCount
    }

    /// Notes a change that the index or the saved map must follow. Any lock but `io` may not be held.
    func markDirty() {
        let isNew = state.withLock { state in
            defer { state.isDirty = true }
            return !state.isDirty
        }
        if isNew { engine.flushQueue.add(self) }
    }

    static func extend(_ range: inout Range<Int>?, with blocks: Range<Int>) {
        guard !blocks.isEmpty else { return }
        range = range.map { min($0.lowerBound, blocks.lowerBound)..<max($0.upperBound, blocks.upperBound) } ?? blocks
    }
}

/// The extents of an object in blocks.
extension BlockGeometry {
    var blocksPerExtent: Int { Int(ExtentID.size) / blockSize }

    func blocks(ofExtent index: UInt32) -> Range<Int> {
        let start = min(Int(index) * blocksPerExtent, blockCount)
        return start..<min(start + blocksPerExtent, blockCount)
    }

    func extent(of block: Int) -> UInt32 { UInt32(block / blocksPerExtent) }
}
