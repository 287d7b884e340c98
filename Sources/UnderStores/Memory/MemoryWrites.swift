import Platform

/// What a `MemoryStore` keeps of writing besides its objects. A value: no lock, no waiting.
struct MemoryWrites {
    struct Upload {
        let key: ByteString
        let metadata: WrittenMetadata
        let started: FileTime
        var parts: [Int: [UInt8]] = [:]
    }

    var limits: ObjectLimits
    var conditions: EnforcedConditions
    /// As of a store that checks nothing else.
    var wantsMD5 = false
    /// Bodies that came with their MD5.
    var bodiesWithMD5 = 0
    private(set) var uploads: [UploadID: Upload] = [:]
    private var begun: Int64 = 0

    init(limits: ObjectLimits, conditions: EnforcedConditions) {
        self.limits = limits
        self.conditions = conditions
    }

    mutating func begin(_ key: ByteString, _ metadata: WrittenMetadata) -> UploadID {
        begun += 1
        let upload = UploadID("u\(begun)")
        uploads[upload] = Upload(key: key, metadata: metadata, started: FileTime(seconds: 1_000_000_000 + begun))
        return upload
    }

    /// False when the upload is gone.
    mutating func add(_ bytes: [UInt8], as number: Int, to upload: UploadID) -> Bool {
        guard uploads[upload] != nil else { return false }
        uploads[upload]?.parts[number] = bytes
        return true
    }

    mutating func end(_ upload: UploadID) { uploads[upload] = nil }

    /// The ETag of a part: what names its bytes.
    static func tag(_ bytes: [UInt8]) -> String {
        "\"p\(bytes.withUnsafeBytes { CRC32C.of($0) })-\(bytes.count)\""
    }
}
