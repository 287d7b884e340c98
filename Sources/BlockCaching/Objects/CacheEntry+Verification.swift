import BlockMaps
import Platform
import SystemPackage

extension CacheEntry {
    /// Reads suspect blocks among `blocks`: sound ones become present, damaged ones are dropped. Blocks on the disk.
    func verifySuspects(in blocks: Range<Int>) {
        // Piece by piece, so that a reader's own blocks need not wait for a large file.
        var cursor = blocks.lowerBound
        while let first = state.withLock({ $0.suspects?.first(in: cursor..<max(cursor, blocks.upperBound)) }) {
            let end = min(first + 64, blocks.upperBound)
            io.withLock { _ in verifySuspectsHoldingIO(in: first..<end) }
            cursor = end
        }
    }

    func verifySuspectsHoldingIO(in blocks: Range<Int>) {
        guard let file = state.withLock({ $0.suspectCount > 0 ? $0.file : nil }) else { return }
        withScratch(file.geometry.blockSize) { buffer in
            var cursor = blocks.lowerBound
            while let block = state.withLock({ $0.suspects?.first(in: cursor..<max(cursor, blocks.upperBound)) }) {
                guard settleSuspect(block, file, buffer) else { return }
                cursor = block + 1
            }
        }
    }

    /// False when the disk failed.
    private func settleSuspect(_ block: Int, _ file: BlockFile, _ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        let verdict: BlockFile.Verdict
        do throws(Errno) { verdict = try file.check(block, buffer: buffer) } catch {
            engine.noteFailure(of: file.tier, error, doing: "verifying a cache file")
            return false
        }
        state.withLock { state in
            guard state.file === file, state.suspects?.contains(block) == true else { return }
            state.suspects?.remove(block)
            if verdict == .sound {
                file.map.markPresent(block, checksum: file.map.checksum(of: block))
                state.presentBlocks += 1
            } else {
                forget(block, file, &state)
            }
            Self.extend(&state.unsaved, with: block..<block + 1)
        }
        if verdict == .damaged { noteDamage(block) }
        markDirty()
        return true
    }

    /// The accounts of a block that is neither present nor suspect any more.
    private func forget(_ block: Int, _ file: BlockFile, _ state: inout State) {
        let weight = Tier.weight(of: block..<block + 1, file.geometry)
        state.occupied -= min(weight, state.occupied)
        let index = file.geometry.extent(of: block)
        file.tier.remove(
            ExtentID(digest: digest, index: index), bytes: weight,
            remaining: Self.occupied(file.geometry.blocks(ofExtent: index), file, state.suspects))
    }

    private func noteDamage(_ block: Int) {
        engine.counters.damagedBlocks.add(1, ordering: .relaxed)
        engine.logger.warning(
            "dropped a damaged block; it will be fetched again", metadata: ["object": "\(id)", "block": "\(block)"])
    }

    /// Compares every block on the disk with its checksum and drops the damaged. Returns how many. Blocks on the disk.
    func scrub() -> Int {
        load()
        guard let file = state.withLock({ $0.file }) else { return 0 }
        verifySuspects(in: 0..<file.geometry.blockCount)
        return io.withLock { _ in
            withScratch(file.geometry.blockSize) { buffer in
                var damaged = 0
                var cursor = 0
                while let block = file.map.firstPresent(in: cursor..<max(cursor, file.geometry.blockCount)) {
                    cursor = block + 1
                    do throws(Errno) {
                        guard try file.check(block, buffer: buffer) == .damaged else { continue }
                    } catch {
                        engine.noteFailure(of: file.tier, error, doing: "verifying a cache file")
                        break
                    }
                    dropBlock(block, file)
                    damaged += 1
                }
                return damaged
            }
        }
    }

    /// Withdraws one block whose bytes are wrong, with `io` held. Readers that are at it see the epoch move.
    func dropBlock(_ block: Int, _ file: BlockFile) {
        let dropped = state.withLock { state in
            guard state.file === file, file.map.clear(block..<block + 1) == 1 else { return false }
            state.presentBlocks -= 1
            state.generation += 1
            forget(block, file, &state)
            Self.extend(&state.unsaved, with: block..<block + 1)
            return true
        }
        guard dropped else { return }
        noteDamage(block)
        do throws(Errno) { try file.saveMap(block..<block + 1) } catch {
            engine.noteFailure(of: file.tier, error, doing: "saving a block map")
        }
        markDirty()
    }

    func withScratch<Result>(_ size: Int, _ body: (UnsafeMutableRawBufferPointer) -> Result) -> Result {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
        defer { buffer.deallocate() }
        return body(buffer)
    }
}
