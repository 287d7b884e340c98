import BlockMaps
import Platform

/// What the index keeps of one cached object version.
struct ObjectRecord: Hashable, Sendable {
    static let formatVersion: UInt8 = 1
    /// S3 keys have 1024 bytes, local paths 4096; anything near this is damage.
    static let maximumText = 64 << 10

    var id: CachedObjectID
    var tier: UInt64
    var blockSize: Int
    /// Bytes of its blocks in the cache file, as the tier accounts them.
    var occupiedBytes: UInt64
    /// Which trust in unclean stops it was written under; below the index's own, blocks must be verified.
    var trust: UInt32
    /// 0…3: whether it was used again, for the queues of the next start.
    var frequency: UInt8
    var isComplete: Bool
    /// Of every block, for a complete object of 1 MiB at most, which needs no map file; else empty.
    var checksums: [UInt32]
    /// Seconds since 1970, of the last flush after a use.
    var lastUse: UInt64
    /// Which run of the coordinator made the file; see `Tier.run`.
    var run: UInt64

    func encoded() -> [UInt8] {
        var writer = RecordWriter()
        writer.integer(Self.formatVersion)
        writer.integer(UInt8(isComplete ? 1 : 0))
        writer.integer(frequency)
        writer.integer(UInt8(blockSize.trailingZeroBitCount))
        writer.integer(trust)
        writer.integer(tier)
        writer.integer(occupiedBytes)
        writer.integer(lastUse)
        writer.integer(run)
        writer.integer(id.size)
        writer.counted(Array(id.store.utf8))
        writer.counted(id.key.bytes)
        writer.counted(id.version.bytes)
        writer.integer(UInt32(checksums.count))
        for checksum in checksums { writer.integer(checksum) }
        return writer.bytes
    }

    init(
        id: CachedObjectID, tier: UInt64, blockSize: Int, occupiedBytes: UInt64, trust: UInt32, frequency: UInt8,
        isComplete: Bool, checksums: [UInt32], lastUse: UInt64, run: UInt64 = 0
    ) {
        self.id = id
        self.tier = tier
        self.blockSize = blockSize
        self.occupiedBytes = occupiedBytes
        self.trust = trust
        self.frequency = frequency
        self.isComplete = isComplete
        self.checksums = checksums
        self.lastUse = lastUse
        self.run = run
    }

    /// Strict: unknown versions, flags, counts that do not fit and trailing bytes are refused.
    init(decoding bytes: UnsafeRawBufferPointer) throws(RecordError) {
        var reader = RecordReader(bytes)
        guard try reader.take("format", as: UInt8.self) == Self.formatVersion else {
            throw RecordError(field: "format")
        }
        let flags = try reader.take("flags", as: UInt8.self)
        guard flags <= 1 else { throw RecordError(field: "flags") }
        isComplete = flags == 1
        frequency = try reader.take("frequency", as: UInt8.self)
        let shift = try reader.take("block size", as: UInt8.self)
        guard shift < 32, BlockGeometry.blockSizes.contains(1 << Int(shift)) else {
            throw RecordError(field: "block size")
        }
        blockSize = 1 << Int(shift)
        trust = try reader.take("trust", as: UInt32.self)
        tier = try reader.take("tier", as: UInt64.self)
        occupiedBytes = try reader.take("occupied", as: UInt64.self)
        lastUse = try reader.take("last use", as: UInt64.self)
        run = try reader.take("run", as: UInt64.self)
        let size = try reader.take("size", as: UInt64.self)
        guard let geometry = BlockGeometry(objectSize: size, blockSize: blockSize) else {
            throw RecordError(field: "size")
        }
        guard occupiedBytes <= size &+ 4096 * 2 else { throw RecordError(field: "occupied") }
        let store = try reader.takeCounted("store", limit: Self.maximumText)
        let key = try reader.takeCounted("key", limit: Self.maximumText)
        let version = try reader.takeCounted("version", limit: Self.maximumText)
        guard let text = String(validating: store, as: UTF8.self) else { throw RecordError(field: "store") }
        id = CachedObjectID(store: text, key: ByteString(key), version: ByteString(version), size: size)
        let count = Int(try reader.take("checksum count", as: UInt32.self))
        guard count == 0 || (count == geometry.blockCount && count <= 256) else {
            throw RecordError(field: "checksum count")
        }
        var checksums: [UInt32] = []
        for _ in 0..<count { checksums.append(try reader.take("checksum", as: UInt32.self)) }
        self.checksums = checksums
        try reader.finish()
    }
}
