import BlockMaps
import Platform
import SystemPackage

/// Writes the bytes of one fetch where they belong, checksums them as they arrive, and announces each whole block.
///
/// A block is written whole: libcurl hands over 16 KiB at a time, and so many small writes cost the kernel time for each
/// and leave the page cache in small pieces, which every later read of the file pays for (docs/performance.md).
final class FetchSink: BlockSink, @unchecked Sendable {
    private let entry: CacheEntry
    private let fetch: Fetch
    private let geometry: BlockGeometry
    private let target: Descriptor
    /// Where byte 0 of the target lies in the object.
    private let base: UInt64
    private let range: Range<UInt64>
    private var position: UInt64
    private var checksum = CRC32C()
    /// The start of a block whose end has not come yet: the `gathered` bytes before `position`.
    private let block: UnsafeMutableRawBufferPointer
    private var gathered = 0
    private var arrived: [UInt32] = []
    /// The target refused a write; the source is not to blame.
    private(set) var failure: Errno?

    /// One thread at a time uses the sink.
    init(entry: CacheEntry, fetch: Fetch, blocks: Range<Int>, geometry: BlockGeometry, target: Descriptor, base: UInt64)
    {
        self.entry = entry
        self.fetch = fetch
        self.geometry = geometry
        self.target = target
        self.base = base
        range = geometry.bytes(of: blocks)
        position = range.lowerBound
        block = .allocate(byteCount: geometry.blockSize, alignment: 4096)
    }

    deinit { block.deallocate() }

    var isFull: Bool { position == range.upperBound }

    func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        guard !bytes.isEmpty else { return }
        guard offset == position else {
            throw CacheError.sourceViolation("bytes at \(offset) instead of \(position)")
        }
        guard UInt64(bytes.count) <= range.upperBound - position else {
            throw CacheError.sourceViolation("more bytes than the \(range.count) asked for")
        }
        if let failure { throw failure }
        if entry.engine.isClosed { throw CacheError.closed }
        entry.engine.counters.bytesFetched.add(UInt64(bytes.count), ordering: .relaxed)
        let first = geometry.block(at: position)
        do throws(Errno) { try take(bytes) } catch {
            failure = error
            throw error
        }
        guard !arrived.isEmpty else { return }
        entry.arrived(fetch, first: first, checksums: arrived)
        arrived.removeAll(keepingCapacity: true)
    }

    private func take(_ bytes: UnsafeRawBufferPointer) throws(Errno) {
        var rest = bytes
        while !rest.isEmpty {
            let index = geometry.block(at: position)
            let end = geometry.bytes(of: index..<index + 1).upperBound
            let part = UnsafeRawBufferPointer(rebasing: rest.prefix(Int(min(UInt64(rest.count), end - position))))
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(part.count))
            checksum.update(part)
            position += UInt64(part.count)
            let isWhole = position == end
            if isWhole, gathered == 0 {
                try target.write(part, at: position - UInt64(part.count) - base)
            } else {
                UnsafeMutableRawBufferPointer(rebasing: block[gathered...]).copyMemory(from: part)
                gathered += part.count
                guard isWhole else { continue }
                let whole = UnsafeRawBufferPointer(rebasing: block[..<gathered])
                try target.write(whole, at: position - UInt64(gathered) - base)
                gathered = 0
            }
            arrived.append(checksum.value)
            checksum = CRC32C()
        }
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
