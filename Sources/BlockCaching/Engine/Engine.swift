import BlockMaps
import Logging
import Platform
import Synchronization
import SystemPackage

/// The threads of all caches of the process for opening, verifying and copying; fetches run their async parts on it
/// too.
private let sharedPool = WorkerPool(name: "cache-io", threads: 4)

/// What the handles of one cache share. `BlockCache` owns it; handles keep it alive, closed, until they go.
final class Engine: Sendable {
    private struct Slot {
        let entry: CacheEntry
        var uses: Int
    }

    let configuration: CacheConfiguration
    let logger: Logger
    let tiers: [Tier]
    /// Below this, what a record speaks of must be verified.
    let trust: UInt32
    let scheduler: FetchScheduler
    let budget: MemoryBudget
    let runs = RunBufferPool()
    let counters = EngineCounters()
    let flushQueue: FlushQueue
    /// Writes the index.
    let flusher: WorkerThread
    /// Fills the policies after a start, removes orphans.
    let restorer = WorkerThread(name: "cache-restore")
    /// Verifies whole objects.
    let scrubber = WorkerThread(name: "cache-scrub")
    let pool = sharedPool
    let recordedUsage: Lock<[UInt64: TierUsage]>
    private let table = Lock<[ObjectDigest: Slot]>([:])
    private let openIndex: Lock<CacheIndex?>
    private let closed = Atomic(false)
    private let restoring = Atomic(false)
    /// The last write of the index failed: said once.
    let isIndexFailing = Atomic(false)

    init(
        configuration: CacheConfiguration, logger: Logger, tiers: [Tier], index: CacheIndex, trust: UInt32,
        usage: [UInt64: TierUsage]
    ) {
        self.configuration = configuration
        self.logger = logger
        self.tiers = tiers
        self.trust = trust
        scheduler = FetchScheduler(limit: configuration.maximumFetches)
        budget = MemoryBudget(limit: configuration.readThroughBudget)
        openIndex = Lock(index)
        recordedUsage = Lock(usage)
        let flusher = WorkerThread(name: "cache-index")
        self.flusher = flusher
        let box = WeakEngine()
        flushQueue = FlushQueue(worker: flusher, delay: configuration.flushInterval) { box.engine?.flush() }
        box.set(self)
    }

    var index: CacheIndex? { openIndex.withLock { $0 } }
    var isClosed: Bool { closed.load(ordering: .acquiring) }
    var isRestoring: Bool { restoring.load(ordering: .acquiring) }
    func setRestoring(_ value: Bool) { restoring.store(value, ordering: .releasing) }

    func tier(identity: UInt64) -> Tier? { tiers.first { $0.identity == identity } }

    /// The tiers that may take a new object, best first. An object that would fill more than a quarter of a tier goes
    /// to a lower one where there is one.
    func candidates(forSize size: UInt64) -> [Tier] {
        let working = tiers.filter(\.isWritable)
        let fitting = working.filter { $0 === tiers.last || size <= $0.configuration.quota / 4 }
        return fitting + working.filter { tier in !fitting.contains { $0 === tier } }
    }

    func noteFailure(of tier: Tier, _ error: Errno, doing what: String) {
        tier.noteFailure(error, doing: what, probeAfter: configuration.probeInterval) { [weak self, weak tier] in
            guard let self, let tier else { return }
            // Objects that moved to other tiers meanwhile left their files here.
            restorer.submit { [weak self] in self?.sweep(tier) }
        }
        if !tier.isReadable { distrust(tier) }
    }

    // MARK: Entries in memory

    /// The entry of an object, not loaded yet when it is new; the caller must `release` it.
    func acquire(_ id: CachedObjectID, _ digest: ObjectDigest) -> CacheEntry {
        table.withLock { table in
            if let slot = table[digest] {
                table[digest]?.uses += 1
                return slot.entry
            }
            let entry = CacheEntry(id: id, digest: digest, engine: self)
            table[digest] = Slot(entry: entry, uses: 1)
            return entry
        }
    }

    /// The entry of an object that is in memory or in the index. Blocks on the disk.
    func acquire(_ digest: ObjectDigest) -> CacheEntry? {
        if let entry = live(digest, retaining: true) { return entry }
        guard let record = try? index?.record(digest) else { return nil }
        return acquire(record.id, digest)
    }

    func live(_ digest: ObjectDigest, retaining: Bool) -> CacheEntry? {
        table.withLock { table in
            guard let slot = table[digest] else { return nil }
            if retaining { table[digest]?.uses += 1 }
            return slot.entry
        }
    }

    var liveEntries: [CacheEntry] { table.withLock { $0.values.map(\.entry) } }
    var liveCount: Int { table.withLock { $0.count } }

    /// Only for an entry that the caller holds: one that has left memory cannot come back.
    func retain(_ entry: CacheEntry) { table.withLock { $0[entry.digest]?.uses += 1 } }

    func release(_ entry: CacheEntry) {
        let isIdle = table.withLock { table in
            guard let slot = table[entry.digest], slot.entry === entry else { return false }
            table[entry.digest]?.uses = slot.uses - 1
            return slot.uses == 1
        }
        if isIdle { flushQueue.addIdle(entry) }
    }

    /// Looks whether an entry may leave memory, after a fetch that may have outlived its handles.
    func noteIdle(_ entry: CacheEntry) {
        if isUnused(entry) { flushQueue.addIdle(entry) }
    }

    func isUnused(_ entry: CacheEntry) -> Bool { table.withLock { $0[entry.digest]?.uses == 0 } }

    /// Drops an entry that nobody uses and that has nothing to save; false when it has.
    func retire(_ entry: CacheEntry) -> Bool {
        table.withLock { table in
            guard let slot = table[entry.digest], slot.entry === entry, slot.uses == 0 else { return true }
            let mayGo = entry.state.withLock { !$0.isDirty && !$0.isInUse }
            if mayGo { table[entry.digest] = nil }
            return mayGo || entry.state.withLock { $0.isInUse }
        }
    }

    /// Runs `body` while no entry of `digest` is in memory, nor can come; nil when there is one.
    func whileAbsent<Result>(_ digest: ObjectDigest, _ body: () -> Result) -> Result? {
        table.withLock { $0[digest] == nil ? body() : nil }
    }

    // MARK: Closing

    /// Refuses new work. Returns the tasks of the fetches that must end.
    func beginClosing() -> [Task<Void, Never>] {
        closed.store(true, ordering: .releasing)
        let tasks = liveEntries.flatMap { entry in entry.state.withLock { $0.fetches.compactMap(\.task) } }
        for task in tasks { task.cancel() }
        return tasks
    }

    /// Ends the threads and lets go of the files, as a kill would.
    func abandon() {
        closed.store(true, ordering: .releasing)
        for tier in tiers {
            tier.worker.stop()
            tier.abandonEviction()
        }
        flusher.stop()
        restorer.stop()
        scrubber.stop()
        flushQueue.close()
        let entries = table.withLock { table in
            defer { table = [:] }
            return table.values.map(\.entry)
        }
        withExtendedLifetime(entries) {}
        let index = openIndex.withLock { index in
            defer { index = nil }
            return index
        }
        withExtendedLifetime(index) {}
        for tier in tiers { tier.directory.unlock() }
    }
}

/// Lets the flush queue name the engine that is still being made.
private final class WeakEngine: Sendable {
    private struct Reference { weak var engine: Engine? }
    private let reference = Lock(Reference())
    var engine: Engine? { reference.withLock { $0.engine } }
    func set(_ engine: Engine) { reference.withLock { $0.engine = engine } }
}
