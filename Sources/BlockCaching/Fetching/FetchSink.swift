import BlockMaps
import Platform
import SystemPackage

/// Writes the bytes of one fetch where they belong, checksums them as they arrive, and announces each whole block.
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
    }

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
        do throws(Errno) { try target.write(bytes, at: offset - base) } catch {
            failure = error
            throw error
        }
        entry.engine.counters.bytesFetched.add(UInt64(bytes.count), ordering: .relaxed)
        let first = geometry.block(at: position)
        var rest = bytes
        while !rest.isEmpty {
            let blockEnd = geometry.bytes(of: geometry.block(at: position)..<geometry.block(at: position) + 1)
                .upperBound
            let part = UnsafeRawBufferPointer(rebasing: rest.prefix(Int(min(UInt64(rest.count), blockEnd - position))))
            checksum.update(part)
            position += UInt64(part.count)
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(part.count))
            if position == blockEnd {
                arrived.append(checksum.value)
                checksum = CRC32C()
            }
        }
        guard !arrived.isEmpty else { return }
        entry.arrived(fetch, first: first, checksums: arrived)
        arrived.removeAll(keepingCapacity: true)
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
