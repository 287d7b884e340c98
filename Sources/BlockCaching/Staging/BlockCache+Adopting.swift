import BlockMaps
import Glibc
import Platform
import SystemPackage

extension BlockCache {
    /// Makes a staging file, which nobody writes any more, the complete cache file of `id` by rename(2).
    ///
    /// - Parameter checksums: CRC32C of each block of `StagingFile.blockSize`.
    /// - Returns: false when it cannot be: something of the object is cached already, it would not fit, or the file is not
    ///   what `id` says. Nothing has changed then. Blocks on the disk.
    package func adopt(_ file: StagingFile, as id: CachedObjectID, checksums: [UInt32]) -> Bool {
        guard !engine.isClosed, id.size > 0 else { return false }
        let entry = engine.acquire(id, id.digest)
        defer { engine.release(entry) }
        return entry.adopt(file, checksums)
    }
}

extension CacheEntry {
    fileprivate func adopt(_ staging: StagingFile, _ checksums: [UInt32]) -> Bool {
        load()
        return io.withLock { _ in
            let tier = staging.tier
            guard let geometry = BlockGeometry(objectSize: id.size, blockSize: staging.blockSize),
                checksums.count == geometry.blockCount, tier.isReadable,
                state.withLock({ $0.file == nil && !$0.isInUse }),
                let data = try? staging.descriptor(), (try? data.status().size) == id.size
            else { return false }
            staging.account()
            let weight = Tier.weight(of: 0..<geometry.blockCount, geometry)
            let charged = staging.chargedBytes
            // Holes weigh nothing in the staging file, and as blocks in the cache.
            let extra = weight - min(charged, weight)
            guard extra == 0 || tier.reserveNow(extra) else { return false }
            defer { tier.unreserve(extra, evict: engine.eviction(of: tier)) }
            guard let file = rename(staging, data, geometry, checksums) else { return false }
            staging.removeDescription()
            staging.leave()
            tier.correct(from: 0, to: weight)
            take(file, weight: weight)
            return true
        }
    }

    private func rename(
        _ staging: StagingFile, _ data: Descriptor, _ geometry: BlockGeometry, _ checksums: [UInt32]
    ) -> BlockFile? {
        let tier = staging.tier
        guard let map = try? BlockMap(geometry, digest: digest) else { return nil }
        for (block, checksum) in checksums.enumerated() { map.markPresent(block, checksum: checksum) }
        do throws(Errno) {
            try TierDirectory.makeDirectories(tier.directory.directory(of: digest))
            // A map that a removed cache file left would speak of other blocks.
            unlink(tier.directory.mapPath(digest))
            guard Glibc.rename(staging.path, tier.directory.dataPath(digest)) == 0 else {
                throw Errno(rawValue: errno)
            }
        } catch {
            engine.noteFailure(of: tier, error, doing: "keeping a written file")
            return nil
        }
        return BlockFile(tier: tier, data: data, map: map, run: tier.run, mapFile: nil)
    }

    func take(_ file: BlockFile, weight: UInt64) {
        let all = 0..<file.geometry.blockCount
        state.withLock { state in
            state.geometry = file.geometry
            state.file = file
            state.suspects = nil
            state.presentBlocks = all.count
            state.occupied = weight
            state.unsaved = all
            state.generation += 1
            // Who wrote it may still read it by a descriptor or a backing id of then.
            state.mayBeLentWhole = true
            for index in ExtentID.indices(of: 0..<id.size) {
                let weight = Self.occupied(file.geometry.blocks(ofExtent: index), file, nil)
                file.tier.restore(ExtentID(digest: digest, index: index), weight: weight, frequency: 0, isExact: true)
            }
        }
        file.tier.adjustFiles(by: 1)
        markDirty()
    }
}
