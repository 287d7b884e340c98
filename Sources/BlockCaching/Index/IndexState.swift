import Platform

/// The index's record of itself.
struct IndexState: Hashable, Sendable {
    static let formatVersion: UInt32 = 1

    var bootIdentifier: String
    /// Set by an orderly shutdown, after everything reached the disks.
    var isClean: Bool
    /// Moves with each unclean stop that the page cache did not survive; see `ObjectRecord.trust`.
    var trust: UInt32

    func encoded() -> [UInt8] {
        var writer = RecordWriter()
        writer.integer(Self.formatVersion)
        writer.integer(UInt8(isClean ? 1 : 0))
        writer.integer(trust)
        writer.counted(Array(bootIdentifier.utf8))
        return writer.bytes
    }

    init(bootIdentifier: String, isClean: Bool, trust: UInt32) {
        self.bootIdentifier = bootIdentifier
        self.isClean = isClean
        self.trust = trust
    }

    /// Throws a `RecordError` whose field is "format N" for another format version.
    init(decoding bytes: UnsafeRawBufferPointer) throws(RecordError) {
        var reader = RecordReader(bytes)
        let version = try reader.take("format", as: UInt32.self)
        guard version == Self.formatVersion else { throw RecordError(field: "format \(version)") }
        isClean = try reader.take("clean", as: UInt8.self) == 1
        trust = try reader.take("trust", as: UInt32.self)
        bootIdentifier = String(decoding: try reader.takeCounted("boot", limit: 256), as: UTF8.self)
        try reader.finish()
    }
}

/// What the records of one tier add up to.
struct TierUsage: Hashable, Sendable {
    var bytes: UInt64 = 0
    var files: UInt64 = 0

    func encoded() -> [UInt8] {
        var writer = RecordWriter()
        writer.integer(bytes)
        writer.integer(files)
        return writer.bytes
    }

    init() {}

    mutating func add(_ fileBytes: UInt64) {
        bytes += fileBytes
        files += 1
    }

    mutating func subtract(_ fileBytes: UInt64) {
        bytes -= min(fileBytes, bytes)
        files -= min(1, files)
    }

    init(decoding raw: UnsafeRawBufferPointer) throws(RecordError) {
        var reader = RecordReader(raw)
        bytes = try reader.take("bytes", as: UInt64.self)
        files = try reader.take("files", as: UInt64.self)
        try reader.finish()
    }
}
