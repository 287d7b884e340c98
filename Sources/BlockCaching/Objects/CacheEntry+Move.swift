import BlockMaps
import Platform
import SystemPackage

extension CacheEntry {
    /// Copies the cache file to another tier, verifying each block, and lets new loans use the copy. Gives up when
    /// someone uses the object meanwhile, or when it weighs more than `reserved`, what the target has set aside: that
    /// is used or given back. Asks `isUrgent` between blocks whether to give up. Returns whether it moved. Blocks on
    /// both disks.
    func move(to target: Tier, reserved: UInt64, unless isUrgent: () -> Bool) -> Bool {
        load()
        var settled: UInt64 = 0
        defer { target.unreserve(reserved - min(settled, reserved), evict: engine.eviction(of: target)) }
        return io.withLock { _ in
            let start = state.withLock { state -> (file: BlockFile, generation: UInt64, weight: UInt64)? in
                guard let file = state.file, file.tier !== target, file.tier.isReadable, state.suspectCount == 0,
                    !state.isInUse, state.occupied > 0
                else { return nil }
                state.isMoving = true
                return (file, state.generation, state.occupied)
            }
            defer { state.withLock { $0.isMoving = false } }
            guard let start, start.weight <= reserved, let copy = copy(start.file, to: target, unless: isUrgent) else {
                return false
            }
            guard swap(start.file, copy, generation: start.generation) else {
                copy.remove()
                return false
            }
            settled = start.weight
            start.file.remove()
            start.file.tier.adjustFiles(by: -1)
            target.adjustFiles(by: 1)
            markDirty()
            return true
        }
    }

    private func copy(_ file: BlockFile, to target: Tier, unless isUrgent: () -> Bool) -> BlockFile? {
        let copy: BlockFile
        do throws(Errno) { copy = try BlockFile.create(in: target, file.geometry, digest: digest) } catch {
            engine.noteFailure(of: target, error, doing: "creating a cache file")
            return nil
        }
        let isWhole = withScratch(file.geometry.blockSize) { buffer in
            var cursor = 0
            while let block = file.map.firstPresent(in: cursor..<max(cursor, file.geometry.blockCount)) {
                cursor = block + 1
                guard !isUrgent(), copyBlock(block, file, copy, buffer) else { return false }
            }
            do throws(Errno) { try copy.saveMap(0..<copy.geometry.blockCount) } catch {
                engine.noteFailure(of: target, error, doing: "saving a block map")
                return false
            }
            return true
        }
        if !isWhole { copy.remove() }
        return isWhole ? copy : nil
    }

    private func copyBlock(
        _ block: Int, _ file: BlockFile, _ copy: BlockFile, _ buffer: UnsafeMutableRawBufferPointer
    ) -> Bool {
        do throws(Errno) {
            guard try file.check(block, buffer: buffer) == .sound else {
                dropBlock(block, file)
                return false  // the generation has moved: try again another time
            }
        } catch {
            engine.noteFailure(of: file.tier, error, doing: "reading a cache file")
            return false
        }
        let bytes = file.geometry.bytes(of: block..<block + 1)
        do throws(Errno) {
            try copy.data.write(
                UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<bytes.count]), at: bytes.lowerBound)
        } catch {
            engine.noteFailure(of: copy.tier, error, doing: "writing a cache file")
            return false
        }
        copy.map.markPresent(block, checksum: file.map.checksum(of: block))
        return true
    }

    private func swap(_ old: BlockFile, _ new: BlockFile, generation: UInt64) -> Bool {
        state.withLock { state in
            guard state.file === old, state.generation == generation, !state.isInUse else { return false }
            for index in ExtentID.indices(of: 0..<id.size) {
                let extent = ExtentID(digest: digest, index: index)
                let blocks = old.geometry.blocks(ofExtent: index)
                let weight = Self.occupied(blocks, new, nil)  // as of the old one: no generation has passed
                old.tier.remove(extent, bytes: weight, remaining: 0)
                if weight > 0 { new.tier.settle(extent, bytes: weight) }
            }
            state.file = new
            state.unsaved = nil
            state.generation += 1
            state.hits = 0
            return true
        }
    }
}
