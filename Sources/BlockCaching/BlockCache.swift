import BlockMaps
import Logging
import Platform
import SystemPackage

/// The node's cache of blocks: cache files in tiers, brought by single-flight fetches, evicted ahead of need.
///
/// Knows neither stores nor mounts: bytes come from a `BlockSource`, readers get `BlockLoan`s. One coordinator owns it,
/// and its directories, alone. Any thread may call; calls that say so block on the disk.
package final class BlockCache: Sendable {
    let engine: Engine

    /// Opens or creates the tiers and the index and locks them for this process. Reads one record of the index; the
    /// rest is restored behind. A tier that cannot be opened is left out with a warning while another one is left,
    /// unless it is in use, foreign or newer. Blocks on the disk.
    package init(configuration: CacheConfiguration, logger: Logger) throws(CacheError) {
        try configuration.validate()
        var opened: [(configuration: TierConfiguration, directory: TierDirectory)] = []
        for tier in configuration.tiers {
            do throws(CacheError) {
                opened.append((tier, try TierDirectory.open(tier.path)))
            } catch {
                guard case .unusable = error, configuration.tiers.count > 1 else { throw error }
                logger.error("cache tier left out: \(error)")
            }
        }
        guard let home = opened.first(where: { $0.configuration.kind == .disk }) ?? opened.first else {
            throw .unusable(path: configuration.tiers[0].path, reason: "no tier could be opened")
        }
        let index = try CacheIndex(directory: configuration.indexDirectory ?? home.configuration.path + "/index")
        let previous = try index.state()
        let trust = Self.trust(after: previous, boot: configuration.bootIdentifier)
        do {
            let usage = try index.tierUsage()
            let tiers = opened.enumerated().map { number, tier in
                Tier(
                    number: number, configuration: tier.configuration, directory: tier.directory,
                    usage: usage[tier.directory.identity] ?? TierUsage(), cache: configuration, logger: logger)
            }
            // A tier with files but without a row: the index is newer than the files.
            let isUnknown = tiers.contains { !$0.directory.isNew && usage[$0.identity] == nil }
            let unconfigured = usage.keys.filter { key in !tiers.contains { $0.identity == key } }
            try index.commit(
                [.state(IndexState(bootIdentifier: configuration.bootIdentifier, isClean: false, trust: trust))]
                    + tiers.map { .usage(tier: $0.identity, usage[$0.identity] ?? TierUsage()) }
                    + unconfigured.map { .usage(tier: $0, nil) })
            engine = Engine(
                configuration: configuration, logger: logger, tiers: tiers, index: index, trust: trust,
                usage: usage.filter { !unconfigured.contains($0.key) })
            engine.restore(sweeping: isUnknown || previous?.isClean == false)
        } catch {
            throw .unusable(path: index.path, reason: "\(error)")
        }
    }

    deinit { engine.abandon() }

    /// What was written before a machine went down without an orderly stop is trusted no more.
    private static func trust(after previous: IndexState?, boot: String) -> UInt32 {
        guard let previous else { return 1 }
        let survived = previous.isClean || (!boot.isEmpty && previous.bootIdentifier == boot)
        return survived ? previous.trust : previous.trust + 1
    }

    /// A handle on one object version. `source` brings its bytes when no other handle is there that has a source; equal
    /// ids must have equal bytes. Blocks on the disk.
    package func object(_ id: CachedObjectID, source: any BlockSource) -> CachedObject {
        let entry = engine.acquire(id, id.digest)
        entry.load()
        entry.state.withLock { $0.source = source }
        return CachedObject(entry)
    }

    /// What is cached of an object, without making a handle. Blocks on the disk.
    package func presence(of id: CachedObjectID) -> CachePresence {
        let digest = id.digest
        if let entry = engine.live(digest, retaining: false) {
            let known = entry.state.withLock { state -> CachePresence? in
                guard state.isLoaded else { return nil }
                return CachePresence(
                    bytes: min(state.occupied, id.size), isComplete: entry.isComplete(state),
                    tierPath: state.file?.tier.configuration.path)
            }
            if let known { return known }
        }
        guard let record = try? engine.index?.record(digest), let tier = engine.tier(identity: record.tier) else {
            return CachePresence(bytes: 0, isComplete: false, tierPath: nil)
        }
        return CachePresence(
            bytes: min(record.occupiedBytes, id.size), isComplete: record.isComplete, tierPath: tier.configuration.path)
    }

    /// Drops what is cached of an object and not kept by a loan. Returns the bytes freed. Blocks on the disk.
    @discardableResult
    package func free(_ id: CachedObjectID) -> UInt64 {
        let entry = engine.acquire(id, id.digest)
        defer { engine.release(entry) }
        return entry.free()
    }

    /// Drops every cached object that `predicate` accepts and no loan keeps. Returns the bytes freed. Blocks on the
    /// disk.
    @discardableResult
    package func free(where predicate: (CachedObjectID) -> Bool) -> UInt64 {
        var freed: UInt64 = 0
        forEachObject { id in
            if predicate(id) { freed += free(id) }
        }
        return freed
    }

    /// Calls `body` with every object of which something is cached, once each. Blocks on the disk.
    package func forEachObject(_ body: (CachedObjectID) -> Void) {
        var seen: Set<ObjectDigest> = []
        for entry in engine.liveEntries {
            entry.load()
            guard entry.state.withLock({ $0.occupied > 0 }) else { continue }
            seen.insert(entry.digest)
            body(entry.id)
        }
        var last: ObjectDigest?
        while let records = try? engine.index?.records(after: last, limit: 1000), let end = records.last {
            last = end.digest
            for (digest, record) in records where !seen.contains(digest) {
                if let record, engine.tier(identity: record.tier) != nil { body(record.id) }
            }
        }
    }

    /// Compares the cached blocks of an object with their checksums and drops the damaged. Returns how many. Blocks on
    /// the disk.
    package func verify(_ id: CachedObjectID) -> Int {
        let entry = engine.acquire(id, id.digest)
        defer { engine.release(entry) }
        return entry.scrub()
    }
}
