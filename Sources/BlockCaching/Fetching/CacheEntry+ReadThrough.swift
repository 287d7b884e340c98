import BlockMaps
import Glibc
import Platform
import SystemPackage

extension CacheEntry {
    /// A memfd for `range`, counted against the budget.
    func memory(for range: Range<UInt64>, evenOverLimit: Bool) async throws -> ReadThrough {
        await engine.budget.acquire(range.count, evenOverLimit: evenOverLimit)
        do {
            let storage = try Descriptor.memory(named: "larder-read")
            let descriptor = try Descriptor.open("/proc/self/fd/\(storage.raw)", O_RDONLY)
            return ReadThrough(
                descriptor: descriptor, storage: storage, offset: range.lowerBound, length: range.count,
                budget: engine.budget)
        } catch {
            engine.budget.release(range.count)
            throw error
        }
    }

    /// The bytes of `range` in memory, wherever they are: in the cache file, fetched past it, or still in the store.
    func readThrough(_ range: Range<UInt64>) async throws -> ReadThrough? {
        let end = min(range.upperBound, id.size)
        guard range.lowerBound < end else { return nil }
        let range = range.lowerBound..<end
        engine.retain(self)
        defer { engine.release(self) }
        var buffers: [ReadThrough] = []
        if case .readThrough(let bytes) = try await ensure(range, urgency: .demand) { buffers = [bytes] }
        return try await assemble(range, from: buffers)
    }

    /// Gathers `range` from buffers and the cache file; what is in neither any more comes straight from the source.
    func assemble(_ range: Range<UInt64>, from buffers: [ReadThrough]) async throws -> ReadThrough {
        let range = range.clamped(to: 0..<id.size)
        if let whole = buffers.first(where: {
            $0.range.lowerBound <= range.lowerBound && $0.range.upperBound >= range.upperBound
        }) {
            return whole
        }
        guard let geometry, let source = state.withLock({ $0.source }) else { throw CacheError.closed }
        let target = try await memory(for: range, evenOverLimit: !buffers.isEmpty)
        let missing = try await engine.pool.run { [self] in
            try copyParts(of: range, geometry, from: buffers, to: target)
        }
        for part in missing {
            engine.counters.fetches.add(1, ordering: .relaxed)
            engine.counters.bytesReadThrough.add(UInt64(part.count), ordering: .relaxed)
            let sink = MemorySink(target: target.storage, base: target.offset, range: part)
            try await source.fetch(part, into: sink)
            guard sink.isFull else { throw CacheError.sourceViolation("fewer bytes than the \(part.count) asked for") }
            engine.counters.bytesFetched.add(UInt64(part.count), ordering: .relaxed)
        }
        return target
    }

    /// Returns what could not be copied, coalesced.
    private func copyParts(
        of range: Range<UInt64>, _ geometry: BlockGeometry, from buffers: [ReadThrough], to target: ReadThrough
    ) throws -> [Range<UInt64>] {
        var missing: [Range<UInt64>] = []
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: geometry.blockSize, alignment: 4096)
        defer { scratch.deallocate() }
        for block in geometry.blocks(covering: range) {
            let part = geometry.bytes(of: block..<block + 1).clamped(to: range)
            let bytes = UnsafeMutableRawBufferPointer(rebasing: scratch[..<part.count])
            if try copy(part, block, from: buffers, into: bytes) || readCached(part, block, into: bytes) {
                try target.storage.write(UnsafeRawBufferPointer(bytes), at: part.lowerBound - target.offset)
            } else if missing.last?.upperBound == part.lowerBound {
                missing[missing.count - 1] = missing[missing.count - 1].lowerBound..<part.upperBound
            } else {
                missing.append(part)
            }
        }
        return missing
    }

    private func copy(
        _ part: Range<UInt64>, _ block: Int, from buffers: [ReadThrough], into bytes: UnsafeMutableRawBufferPointer
    ) throws -> Bool {
        for buffer in buffers
        where buffer.range.lowerBound <= part.lowerBound && buffer.range.upperBound >= part.upperBound {
            if try buffer.descriptor.read(into: bytes, at: part.lowerBound - buffer.offset) == bytes.count {
                return true
            }
        }
        return false
    }

    /// The reader's protocol of `BlockMapReader`, on the writer's side.
    private func readCached(_ part: Range<UInt64>, _ block: Int, into bytes: UnsafeMutableRawBufferPointer) -> Bool {
        guard let file = state.withLock({ $0.file }), file.tier.isReadable else { return false }
        let epoch = file.map.epoch
        guard file.map.isPresent(block) else { return false }
        do throws(Errno) {
            return try file.data.read(into: bytes, at: part.lowerBound) == bytes.count && file.map.epoch == epoch
        } catch {
            engine.noteFailure(of: file.tier, error, doing: "reading a cache file")
            return false
        }
    }
}
