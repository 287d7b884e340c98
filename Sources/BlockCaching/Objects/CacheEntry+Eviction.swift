import BlockMaps
import Platform
import SystemPackage

extension CacheEntry {
    enum EvictionOutcome {
        case freed(UInt64)
        /// Someone keeps it: it goes back to the policy with this weight.
        case pinned(UInt64)
        /// Not in this tier any more.
        case gone
    }

    /// Drops the blocks of one extent from the cache file, or the whole file when nothing else is in it.
    /// Blocks on the disk.
    func evict(_ index: UInt32, from tier: Tier) -> EvictionOutcome {
        load()
        return io.withLock { _ in evictHoldingIO(index, from: tier) }
    }

    private struct Withdrawal {
        let file: BlockFile
        let blocks: Range<Int>
        /// What to punch: never a block that a fetch is writing.
        let runs: [Range<Int>]
        let freed: UInt64
        let isEmptied: Bool
    }

    private func evictHoldingIO(_ index: UInt32, from tier: Tier) -> EvictionOutcome {
        let (withdrawal, refusal) = withdraw(index, from: tier)
        guard let withdrawal else { return refusal }
        let file = withdrawal.file
        if withdrawal.isEmptied {
            file.remove()
            tier.adjustFiles(by: -1)
        } else {
            do throws(Errno) {
                // Saved before the bytes go: whoever trusts the map after a kill must not find a hole.
                try file.saveMap(withdrawal.blocks)
                for run in withdrawal.runs {
                    let bytes = file.geometry.bytes(of: run)
                    let end = (bytes.upperBound + 4095) & ~4095
                    try file.data.punchHole(at: bytes.lowerBound, length: end - bytes.lowerBound)
                }
            } catch {
                engine.noteFailure(of: tier, error, doing: "evicting blocks")
            }
        }
        let waiters = state.withLock { state in
            state.punching = nil
            defer { state.punchWaiters = [] }
            return state.punchWaiters
        }
        for waiter in waiters { waiter.resume() }
        markDirty()
        return .freed(withdrawal.freed)
    }

    private func withdraw(_ index: UInt32, from tier: Tier) -> (Withdrawal?, EvictionOutcome) {
        state.withLock { state in
            guard let file = state.file, file.tier === tier else { return (nil, .gone) }
            if state.mayBeLentWhole || file.run != tier.run { return withdrawWhole(file, index, &state) }
            let blocks = file.geometry.blocks(ofExtent: index)
            let weight = Self.occupied(blocks, file, state.suspects)
            // The checksums of a small complete object are in its record, so it goes whole or not at all.
            let isLent = state.mapLoans > 0
            guard state.wholeLoans == 0, !(isLent && id.size <= BlockFile.smallSize) else {
                return (nil, .pinned(weight))
            }
            var runs: [Range<Int>] = []
            for block in blocks where file.map.isPresent(block) || state.suspects?.contains(block) == true {
                if runs.last?.upperBound == block {
                    runs[runs.count - 1] = runs[runs.count - 1].lowerBound..<block + 1
                } else {
                    runs.append(block..<block + 1)
                }
                state.suspects?.remove(block)
            }
            state.presentBlocks -= file.map.clear(blocks)
            state.occupied -= min(weight, state.occupied)
            state.generation += 1
            let isEmptied = state.occupied == 0 && !state.isInUse
            if isEmptied {
                state.file = nil
                state.suspects = nil
                state.unsaved = nil
            }
            state.punching = blocks
            tier.remove(ExtentID(digest: digest, index: index), bytes: weight, remaining: 0)
            return (Withdrawal(file: file, blocks: blocks, runs: runs, freed: weight, isEmptied: isEmptied), .gone)
        }
    }

    /// Withdraws a file that readers may have without a block map, or with a map that a former coordinator wrote. Nobody can tell whether they still do: the kernel
    /// goes on reading a passthrough file when the mount process that was lent it, or this coordinator's predecessor,
    /// has died. A hole would be zeros to them, so the file is only ever unlinked: who has it open keeps its bytes.
    private func withdrawWhole(
        _ file: BlockFile, _ index: UInt32, _ state: inout State
    ) -> (Withdrawal?, EvictionOutcome) {
        guard !state.isInUse else {
            return (nil, .pinned(Self.occupied(file.geometry.blocks(ofExtent: index), file, state.suspects)))
        }
        let all = 0..<file.geometry.blockCount
        var freed: UInt64 = 0
        for index in ExtentID.indices(of: 0..<id.size) {
            let weight = Self.occupied(file.geometry.blocks(ofExtent: index), file, state.suspects)
            file.tier.remove(ExtentID(digest: digest, index: index), bytes: weight, remaining: 0)
            freed += weight
        }
        file.map.clear(all)
        state.file = nil
        state.suspects = nil
        state.unsaved = nil
        state.presentBlocks = 0
        state.occupied = 0
        state.generation += 1
        state.mayBeLentWhole = false
        return (Withdrawal(file: file, blocks: all, runs: [], freed: freed, isEmptied: true), .gone)
    }

    /// Drops everything that nobody keeps. Returns the bytes freed. Blocks on the disk.
    @discardableResult
    func free() -> UInt64 {
        load()
        guard let tier = state.withLock({ $0.file?.tier }) else { return 0 }
        if id.size == 0 {
            io.withLock { _ in removeEmptyFile() }
            return 0
        }
        return ExtentID.indices(of: 0..<id.size).reduce(0) {
            if case .freed(let bytes) = evict($1, from: tier) { $0 + bytes } else { $0 }
        }
    }

    /// Removes a file that holds nothing and that nobody uses.
    func removeEmptyFile() {
        let file = state.withLock { state -> BlockFile? in
            guard let file = state.file, state.occupied == 0, !state.isInUse else { return nil }
            state.file = nil
            state.suspects = nil
            state.unsaved = nil
            return file
        }
        guard let file else { return }
        file.remove()
        file.tier.adjustFiles(by: -1)
        markDirty()
    }
}
