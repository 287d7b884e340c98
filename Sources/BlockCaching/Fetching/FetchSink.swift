import BlockMaps
import Platform
import SystemPackage

/// Writes the bytes of one fetch where they belong, checksums them as they arrive, and announces each whole block.
///
/// What arrives is gathered and written in runs of 1 MiB, at multiples of that: libcurl hands over 16 KiB at a time, and
/// so many small writes cost the kernel time for each and leave the page cache in small folios, which every later read
/// of the file pays for (docs/performance.md). Whole blocks are written earlier when a reader waits for nothing else.
final class FetchSink: BlockSink, @unchecked Sendable {
    /// Bytes. As long as programs write files that they have just made, so that a cache file is read as fast as those.
    static let runLength: UInt64 = 1 << 20

    private struct State {
        /// Of the next byte that arrives, in the object.
        var position: UInt64
        /// The target has everything before; a multiple of the block size.
        var written: UInt64
        var checksum = CRC32C()
        /// Of the whole blocks from `written` on.
        var checksums: [UInt32] = []
        /// The target refused a write; the source is not to blame.
        var failure: Errno?
    }

    private let entry: CacheEntry
    private let fetch: Fetch
    private let geometry: BlockGeometry
    private let target: Descriptor
    /// Where byte 0 of the target lies in the object.
    private let base: UInt64
    private let range: Range<UInt64>
    /// The bytes of the current run that the target does not have yet, each at its place.
    private let run: UnsafeMutableRawBufferPointer
    private let runs: RunBufferPool
    /// Taken before the entry's state; the source delivers under it, and a reader who comes late has blocks written.
    private let state: Lock<State>

    init(entry: CacheEntry, fetch: Fetch, blocks: Range<Int>, geometry: BlockGeometry, target: Descriptor, base: UInt64)
    {
        self.entry = entry
        self.fetch = fetch
        self.geometry = geometry
        self.target = target
        self.base = base
        range = geometry.bytes(of: blocks)
        state = Lock(State(position: range.lowerBound, written: range.lowerBound))
        runs = entry.engine.runs
        run = runs.take(Int(min(UInt64(range.count), Self.runLength)))
    }

    deinit { runs.giveBack(run) }

    var isFull: Bool { state.withLock { $0.written == range.upperBound } }
    var failure: Errno? { state.withLock { $0.failure } }

    func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        guard !bytes.isEmpty else { return }
        if entry.engine.isClosed { throw CacheError.closed }
        var arrivals: [CacheEntry.Arrival] = []
        defer { for arrival in arrivals { entry.announce(arrival) } }
        try state.withLock { state in
            guard offset == state.position else {
                throw CacheError.sourceViolation("bytes at \(offset) instead of \(state.position)")
            }
            guard UInt64(bytes.count) <= range.upperBound - state.position else {
                throw CacheError.sourceViolation("more bytes than the \(range.count) asked for")
            }
            if let failure = state.failure { throw failure }
            entry.engine.counters.bytesFetched.add(UInt64(bytes.count), ordering: .relaxed)
            try take(bytes, &state, &arrivals)
        }
    }

    /// Writes the whole blocks that have arrived. Blocks on the disk; any thread.
    func flush() {
        guard !entry.engine.isClosed else { return }
        var arrivals: [CacheEntry.Arrival] = []
        state.withLock { state in
            guard state.failure == nil else { return }
            // A failure shows at the next bytes or at the end of the fetch.
            do throws(Errno) { try writeGathered(&state, &arrivals) } catch {}
        }
        for arrival in arrivals { entry.announce(arrival) }
    }

    private func take(
        _ bytes: UnsafeRawBufferPointer, _ state: inout State, _ arrivals: inout [CacheEntry.Arrival]
    ) throws(Errno) {
        var rest = bytes
        while !rest.isEmpty {
            let start = state.position
            let end = min(range.upperBound, runStart(start) + Self.runLength)
            let part = UnsafeRawBufferPointer(rebasing: rest.prefix(Int(min(UInt64(rest.count), end - start))))
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(part.count))
            let known = state.checksums.count
            checksum(part, &state)
            if state.position == end, state.written == start {
                try write(part, &state, &arrivals)
                continue
            }
            UnsafeMutableRawBufferPointer(rebasing: run[place(start)...]).copyMemory(from: part)
            let hasMore = state.checksums.count > known
            if state.position == end || hasMore && entry.mustShow(state.checksums.count, of: fetch) {
                try writeGathered(&state, &arrivals)
            }
        }
    }

    private func runStart(_ position: UInt64) -> UInt64 { position / Self.runLength * Self.runLength }
    private func place(_ position: UInt64) -> Int { Int(position - max(range.lowerBound, runStart(position))) }

    private func checksum(_ part: UnsafeRawBufferPointer, _ state: inout State) {
        var rest = part[...]
        while !rest.isEmpty {
            let block = geometry.block(at: state.position)
            let end = geometry.bytes(of: block..<block + 1).upperBound
            let piece = rest.prefix(Int(min(UInt64(rest.count), end - state.position)))
            rest = rest.dropFirst(piece.count)
            state.checksum.update(UnsafeRawBufferPointer(rebasing: piece))
            state.position += UInt64(piece.count)
            guard state.position == end else { continue }
            state.checksums.append(state.checksum.value)
            state.checksum = CRC32C()
        }
    }

    private func writeGathered(_ state: inout State, _ arrivals: inout [CacheEntry.Arrival]) throws(Errno) {
        guard !state.checksums.isEmpty else { return }
        let first = geometry.block(at: state.written)
        let length = geometry.bytes(of: first..<first + state.checksums.count).count
        let start = place(state.written)
        try write(UnsafeRawBufferPointer(rebasing: run[start..<start + length]), &state, &arrivals)
    }

    /// Writes whole blocks, those of `state.checksums`, and shows them.
    private func write(
        _ bytes: UnsafeRawBufferPointer, _ state: inout State, _ arrivals: inout [CacheEntry.Arrival]
    ) throws(Errno) {
        do throws(Errno) { try target.write(bytes, at: state.written - base) } catch {
            state.failure = error
            throw error
        }
        let first = geometry.block(at: state.written)
        state.written += UInt64(bytes.count)
        arrivals.append(entry.arrived(fetch, first: first, checksums: state.checksums))
        state.checksums.removeAll(keepingCapacity: true)
    }
}

/// Writes one range of an object into a memfd.
final class MemorySink: BlockSink, @unchecked Sendable {
    private let target: Descriptor
    private let base: UInt64
    private let end: UInt64
    private var position: UInt64

    init(target: Descriptor, base: UInt64, range: Range<UInt64>) {
        self.target = target
        self.base = base
        position = range.lowerBound
        end = range.upperBound
    }

    var isFull: Bool { position == end }

    func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        guard offset == position, UInt64(bytes.count) <= end - position else {
            throw CacheError.sourceViolation("bytes at \(offset) instead of \(position)")
        }
        try target.write(bytes, at: offset - base)
        position += UInt64(bytes.count)
    }
}
