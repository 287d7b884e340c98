import BlockMaps
import Glibc
import Platform

extension BlockCache {
    /// Makes the complete cache file of one object version that of another with the same bytes, after the store has
    /// copied the object or its metadata has got it another version. Who reads the one goes on.
    ///
    /// - Returns: false when there is no complete file to take, or it cannot be; then the other is fetched when it is
    ///   asked for. Blocks on the disk.
    @discardableResult
    package func rename(_ id: CachedObjectID, to other: CachedObjectID) -> Bool {
        guard !engine.isClosed, id.size == other.size, id.size > 0, id != other, presence(of: id).isComplete else {
            return false
        }
        let source = engine.acquire(id, id.digest)
        defer { engine.release(source) }
        let target = engine.acquire(other, other.digest)
        defer { engine.release(target) }
        guard target.takeOver(source) else { return false }
        source.free()
        return true
    }
}

extension CacheEntry {
    fileprivate func takeOver(_ source: CacheEntry) -> Bool {
        source.load()
        load()
        let lent = source.state.withLock { state -> BlockFile? in
            guard source.isComplete(state), state.suspects == nil else { return nil }
            // From here on its blocks belong to two names: it may go as a whole only, and never be punched.
            state.mayBeLentWhole = true
            return state.file
        }
        guard let lent else { return false }
        return io.withLock { _ in
            let tier = lent.tier
            guard tier.isWritable, state.withLock({ $0.file == nil && !$0.isInUse }),
                let map = try? BlockMap(lent.geometry, digest: digest)
            else { return false }
            for block in 0..<lent.geometry.blockCount {
                map.markPresent(block, checksum: lent.map.checksum(of: block))
            }
            let weight = Tier.weight(of: 0..<lent.geometry.blockCount, lent.geometry)
            guard tier.reserveNow(weight) else { return false }
            defer { tier.unreserve(weight, evict: engine.eviction(of: tier)) }
            do {
                try TierDirectory.makeDirectories(tier.directory.directory(of: digest))
            } catch {
                return false
            }
            // A map that a removed cache file left would speak of other blocks.
            unlink(tier.directory.mapPath(digest))
            let path = tier.directory.dataPath(digest)
            guard link(tier.directory.dataPath(source.digest), path) == 0 else { return false }
            tier.correct(from: 0, to: weight)
            take(
                BlockFile(tier: tier, data: lent.data, map: map, run: tier.run, mapFile: nil), weight: weight)
            return true
        }
    }
}
