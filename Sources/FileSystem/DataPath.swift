import BlockMaps
import Coordination
import Platform
import SystemPackage

/// Where the bytes of an open version come from, as one Open was answered. Immutable.
final class DataPath: @unchecked Sendable {
    enum Kind: String, CaseIterable {
        case passthrough, whole, mapped, inline, source, staged
        case readThrough = "read-through"
    }

    let kind: Kind
    let lease: UInt64
    /// The connection that the lease belongs to.
    let generation: UInt64
    let attributes: WireAttributes
    let size: UInt64
    let keepCache: Bool
    let backingID: Int32
    let file: Descriptor?
    let map: BlockMapReader?
    /// What the coordinator says of a file that is being written.
    let staged: WireStagedFile
    /// A long object of which nothing was cached when it was opened.
    let isFirstPass: Bool
    /// What a predecessor of this process was granted: without descriptors and bytes, until it is opened again.
    let isRestored: Bool
    /// Of the predecessor: the coordinator's session that the lease belonged to.
    let session: UInt64
    private let inlineBytes: UnsafeMutableRawBufferPointer

    /// Throws EIO for a grant without its descriptors or with a block map that cannot be trusted.
    init(_ opened: WireOpened, _ descriptors: [Descriptor], generation: UInt64) throws(Errno) {
        lease = opened.lease
        self.generation = generation
        attributes = opened.attributes
        size = opened.attributes.size
        keepCache = opened.keepCache
        var file: Descriptor?
        var map: BlockMapReader?
        var staged = WireStagedFile()
        var backingID: Int32 = 0
        var inline: [UInt8] = []
        switch opened.grant {
        case .backingID(let id):
            kind = .passthrough
            backingID = id
            file = descriptors.first
        case .whole:
            kind = .whole
            file = descriptors.first
        case .source:
            kind = .source
            file = descriptors.first
        case .mapped:
            kind = .mapped
            guard descriptors.count == 2 else { throw .ioError }
            file = descriptors[0]
            do { map = try BlockMapReader(descriptors[1]) } catch { throw .ioError }
        case .inline(let bytes):
            kind = .inline
            inline = Array(bytes)
        case .readThrough: kind = .readThrough
        case .staged(let answered):
            kind = .staged
            staged = answered
            backingID = answered.backingID
            file = descriptors.first
        case nil: throw .ioError
        }
        if kind == .whole || kind == .source || kind == .staged, file == nil { throw .ioError }
        if let map, map.objectSize != size { throw .ioError }
        isFirstPass = size >= Self.longObject && map?.isEmpty == true
        self.file = file
        self.map = map
        self.staged = staged
        self.backingID = backingID
        isRestored = false
        session = 0
        inlineBytes = .allocate(byteCount: inline.count, alignment: 1)
        inlineBytes.copyBytes(from: inline)
    }

    /// What a predecessor of this process was granted. nil: the record makes no sense.
    init?(restored record: GrantRecord, _ attributes: WireAttributes) {
        guard let kind = record.dataKind else { return nil }
        self.kind = kind
        lease = record.lease
        generation = 0
        self.attributes = attributes
        size = record.size
        let flags = GrantRecord.Flags(rawValue: record.flags)
        keepCache = flags.contains(.keepsCache)
        backingID = record.backingID
        (file, map) = (nil, nil)
        isFirstPass = flags.contains(.firstPass)
        var staged = WireStagedFile()
        staged.number = record.staged
        staged.direct = flags.contains(.direct)
        staged.backingID = kind == .staged ? record.backingID : 0
        self.staged = staged
        isRestored = true
        session = record.session
        inlineBytes = .allocate(byteCount: 0, alignment: 1)
    }

    /// A renewed lease on what `old` has: its descriptor goes on, if it has one.
    init(_ renewed: DataPath, keeping old: DataPath) {
        kind = old.kind
        lease = renewed.lease
        generation = renewed.generation
        attributes = renewed.attributes
        size = old.size
        keepCache = old.keepCache
        backingID = old.backingID
        file = old.isRestored ? renewed.file : old.file
        map = old.isRestored ? renewed.map : old.map
        staged = renewed.staged
        isFirstPass = old.isFirstPass
        isRestored = false
        session = 0
        inlineBytes = .allocate(byteCount: 0, alignment: 1)
    }

    deinit { inlineBytes.deallocate() }

    /// Bytes from which on an object is read for its columns or as a whole, and not in a few small pieces again and again.
    static let longObject: UInt64 = 8 << 20

    var stagedNumber: UInt64 { staged.number }
    var isDirect: Bool { staged.direct }
    /// The kernel reads, and writes, by itself.
    var isPassthrough: Bool { backingID != 0 }
    /// The file's end is wherever its writers have moved it.
    var isLive: Bool { kind == .source || kind == .staged }

    /// Reads bytes that are here, without a message, a lock or an allocation. nil: they are not (all) here.
    ///
    /// Returns less than the buffer only at the end of the file.
    @inline(__always)
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        if isLive { return file.flatMap { Self.pread($0, offset, buffer) } }
        guard offset < size else { return 0 }
        let count = Int(min(UInt64(buffer.count), size - offset))
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        switch kind {
        case .mapped: return readMapped(at: offset, into: part)
        case .whole:
            guard let file, Self.pread(file, offset, part) == count else { return nil }
            return count
        case .inline:
            guard Int(offset) + count <= inlineBytes.count else { return nil }
            part.copyMemory(from: UnsafeRawBufferPointer(rebasing: inlineBytes[Int(offset)..<Int(offset) + count]))
            return count
        case .passthrough, .readThrough, .source, .staged: return nil
        }
    }

    /// How often a read starts again because an eviction ran meanwhile, before it is treated as a miss.
    private static let mappedAttempts = 4

    @inline(__always)
    private func readMapped(at offset: UInt64, into part: UnsafeMutableRawBufferPointer) -> Int? {
        guard let map, let file else { return nil }
        for _ in 0..<Self.mappedAttempts {
            let epoch = map.epoch()
            guard map.isPresent(offset: offset, length: part.count) else { return nil }
            let count = Self.pread(file, offset, part)
            guard map.isUnchanged(since: epoch) else { continue }
            return count == part.count ? count : nil
        }
        return nil
    }

    @inline(__always)
    private static func pread(_ file: Descriptor, _ offset: UInt64, _ buffer: UnsafeMutableRawBufferPointer) -> Int? {
        do throws(Errno) { return try file.read(into: buffer, at: offset) } catch { return nil }
    }

    /// The part of `range` (within the file) that must be fetched: from the first absent block to the last. nil: none.
    func missing(in range: Range<UInt64>) -> Range<UInt64>? {
        guard !range.isEmpty else { return nil }
        guard let map else { return range }
        let geometry = map.geometry
        let blocks = geometry.blocks(covering: range)
        let isPresent = { (block: Int) in
            map.isPresent(offset: UInt64(block) * UInt64(geometry.blockSize), length: 1)
        }
        guard let first = blocks.first(where: { !isPresent($0) }),
            let last = blocks.reversed().first(where: { !isPresent($0) }), first <= last
        else { return nil }
        return geometry.bytes(of: first..<last + 1)
    }
}
