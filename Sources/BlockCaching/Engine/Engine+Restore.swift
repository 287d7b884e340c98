import BlockMaps
import Glibc
import Platform
import Synchronization

extension Engine {
    /// After a start, tells the policies what is cached, a batch of records at a time, and removes what no record
    /// speaks of. Nothing waits for it but evictions that find no victim yet.
    func restore(sweeping: Bool) {
        setRestoring(true)
        restorer.submit { [weak self] in self?.restoreBatch(after: nil, sweeping: sweeping) }
    }

    /// Records read at a time: a few milliseconds of one reader's snapshot.
    private static let batch = 1000

    private func restoreBatch(after digest: ObjectDigest?, sweeping: Bool) {
        guard !isClosed, let index else { return }
        let records: [(digest: ObjectDigest, record: ObjectRecord?)]
        do { records = try index.records(after: digest, limit: Self.batch) } catch {
            logger.error("cannot read the cache index", metadata: ["error": "\(error)"])
            return finishRestoring(sweeping: false)
        }
        var useless: [ObjectDigest] = []
        for (digest, record) in records {
            guard let record, let tier = tier(identity: record.tier) else {
                useless.append(digest)
                continue
            }
            restore(record, digest, in: tier)
        }
        if !useless.isEmpty { remove(useless) }
        for tier in tiers where tier.hasWaiters { tier.startEviction(eviction(of: tier)) }
        guard let last = records.last, records.count == Self.batch else { return finishRestoring(sweeping: sweeping) }
        restorer.submit { [weak self] in self?.restoreBatch(after: last.digest, sweeping: sweeping) }
    }

    private func restore(_ record: ObjectRecord, _ digest: ObjectDigest, in tier: Tier) {
        guard live(digest, retaining: false) == nil else { return }
        let extents = ExtentID.indices(of: 0..<record.id.size)
        guard !extents.isEmpty else { return }
        // Which extents hold the bytes is known when the map is read; until then each is taken for its share.
        let share = max(4096, min(record.occupiedBytes / UInt64(extents.count), ExtentID.size))
        for index in extents {
            tier.restore(
                ExtentID(digest: digest, index: index), weight: share, frequency: record.frequency, isExact: false)
        }
    }

    /// Removes records that cannot be used: damaged, or of a tier that is not configured.
    private func remove(_ digests: [ObjectDigest]) {
        flusher.submit { [weak self] in
            guard let self else { return }
            let absent = digests.filter { self.live($0, retaining: false) == nil }
            try? index?.commit(absent.map { .remove($0) })
        }
    }

    private func finishRestoring(sweeping: Bool) {
        if sweeping { for tier in tiers where !isClosed { sweep(tier) } }
        setRestoring(false)
        for tier in tiers where tier.hasWaiters { tier.startEviction(eviction(of: tier)) }
    }

    /// After a write error the kernel may have dropped pages that the disk never took (fsync(2), NOTES): what lies in
    /// the tier must be verified before it is opened again, by this process and by the next.
    func distrust(_ tier: Tier) {
        guard !tier.isDistrusted.exchange(true, ordering: .acquiringAndReleasing) else { return }
        flusher.submit { [weak self] in
            guard let self else { return }
            try? index?.commit([.state(IndexState(bootIdentifier: "", isClean: false, trust: trust))])
        }
    }

    /// Removes cache files without a record: what a kill left, or a tier that failed for a while.
    func sweep(_ tier: Tier) {
        let objects = tier.directory.path + "/objects"
        var removed = 0
        for folder in (try? TierDirectory.names(in: objects)) ?? [] {
            for name in (try? TierDirectory.names(in: "\(objects)/\(folder)")) ?? [] {
                guard !isClosed else { return }
                if removeIfOrphan("\(objects)/\(folder)/\(name)", name, in: tier) { removed += 1 }
            }
        }
        if removed > 0 {
            tier.logger.info("removed cache files that no record names", metadata: ["files": "\(removed)"])
        }
    }

    private func removeIfOrphan(_ path: String, _ name: String, in tier: Tier) -> Bool {
        guard let digest = ObjectDigest(hexadecimal: name.prefix(32)) else { return unlink(path) == 0 }
        // An entry in memory owns its files; none can come while the table is held.
        return whileAbsent(digest) {
            do {
                guard let index, try index.record(digest)?.tier != tier.identity else { return false }
                return unlink(path) == 0
            } catch {
                return false
            }
        } ?? false
    }
}
