import Platform

extension PrefixedStore: ObjectWriting {
    package var objectWriting: (any ObjectWriting)? { base.objectWriting == nil ? nil : self }

    /// The prefix takes its part of the longest key.
    package var limits: ObjectLimits {
        var limits = base.objectWriting?.limits ?? ObjectLimits()
        if !prefix.isEmpty { limits.longestKey = max(0, limits.longestKey - prefix.count - 1) }
        return limits
    }

    package var conditions: EnforcedConditions { base.objectWriting?.conditions ?? EnforcedConditions() }
    package var wantsMD5: Bool { base.objectWriting?.wantsMD5 ?? false }
    package var requirements: [StoreRequirement] { base.objectWriting?.requirements ?? [] }

    private var writer: any ObjectWriting {
        get throws(StoreError) {
            guard let writer = base.objectWriting else {
                throw StoreError(.unsupported, "the objects of \(identity) are not written as a whole")
            }
            return writer
        }
    }

    /// A path or key of the base as one of this store.
    private func short(_ path: ByteString) -> ByteString {
        prefix.isEmpty ? path : ByteString(path.bytes.dropFirst(prefix.count + 1))
    }

    package func probeConditions(in directory: ByteString) async throws(StoreError) -> EnforcedConditions {
        try await writer.probeConditions(in: full(directory))
    }

    package func metadata(
        of path: ByteString
    ) async throws(StoreError) -> (metadata: WrittenMetadata, attributes: ObjectAttributes)? {
        try await writer.metadata(of: full(path))
    }

    package func put(
        _ path: ByteString, _ body: UploadBody, _ metadata: WrittenMetadata, if condition: WriteCondition,
        seen look: ConditionLook?
    ) async throws(StoreError) -> ObjectAttributes {
        try await writer.put(full(path), body, metadata, if: condition, seen: look)
    }

    package func look(
        _ path: ByteString, for condition: WriteCondition
    ) async throws(StoreError) -> ConditionLook { try await writer.look(full(path), for: condition) }

    package func beginUpload(_ path: ByteString, _ metadata: WrittenMetadata) async throws(StoreError) -> UploadID {
        try await writer.beginUpload(full(path), metadata)
    }

    package func uploadPart(
        _ upload: UploadID, of path: ByteString, number: Int, _ body: UploadBody
    ) async throws(StoreError) -> UploadedPart {
        try await writer.uploadPart(upload, of: full(path), number: number, body)
    }

    package func copyPart(
        _ upload: UploadID, of path: ByteString, number: Int, from source: ByteString, range: Range<UInt64>,
        expecting version: ObjectVersion?
    ) async throws(StoreError) -> UploadedPart {
        try await writer.copyPart(
            upload, of: full(path), number: number, from: full(source), range: range, expecting: version)
    }

    package func completeUpload(
        _ upload: UploadID, of path: ByteString, parts: [UploadedPart], size: UInt64, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        try await writer.completeUpload(upload, of: full(path), parts: parts, size: size, if: condition)
    }

    package func abortUpload(_ upload: UploadID, of path: ByteString) async throws(StoreError) {
        try await writer.abortUpload(upload, of: full(path))
    }

    package func uploads(under directory: ByteString) async throws(StoreError) -> [PendingUpload] {
        try await writer.uploads(under: full(directory)).map {
            PendingUpload(path: short($0.path), upload: $0.upload, started: $0.started)
        }
    }

    package func uploads(of path: ByteString) async throws(StoreError) -> [PendingUpload] {
        try await writer.uploads(of: full(path)).map {
            PendingUpload(path: short($0.path), upload: $0.upload, started: $0.started)
        }
    }

    package func copy(
        _ source: ByteString, expecting version: ObjectVersion?, to path: ByteString, metadata: WrittenMetadata?,
        if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        try await writer.copy(full(source), expecting: version, to: full(path), metadata: metadata, if: condition)
    }

    package func remove(_ path: ByteString, if condition: WriteCondition) async throws(StoreError) {
        try await writer.remove(full(path), if: condition)
    }

    package func removeAll(
        _ paths: [ByteString]
    ) async throws(StoreError) -> [(path: ByteString, error: StoreError)] {
        try await writer.removeAll(paths.map(full)).map { (short($0.path), $0.error) }
    }

    package func makeDirectory(
        _ path: ByteString, _ metadata: WrittenMetadata
    ) async throws(StoreError) -> ObjectAttributes {
        try await writer.makeDirectory(full(path), metadata)
    }

    package func removeDirectory(_ path: ByteString) async throws(StoreError) {
        try await writer.removeDirectory(full(path))
    }

    package func makeLink(
        _ path: ByteString, target: ByteString, _ metadata: WrittenMetadata, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        try await writer.makeLink(full(path), target: target, metadata, if: condition)
    }

    package func keys(under path: ByteString) -> any KeyListing {
        PrefixedKeys(base: base.objectWriting?.keys(under: full(path))) { short($0) }
    }

    package func copyKey(_ key: ByteString, to destination: ByteString) async throws(StoreError) {
        try await writer.copyKey(full(key), to: full(destination))
    }
}

private final class PrefixedKeys: KeyListing {
    private let base: (any KeyListing)?
    private let short: @Sendable (ByteString) -> ByteString

    init(base: (any KeyListing)?, short: @escaping @Sendable (ByteString) -> ByteString) {
        self.base = base
        self.short = short
    }

    func nextPage() async throws(StoreError) -> [(key: ByteString, size: UInt64, version: ObjectVersion?)]? {
        try await base?.nextPage()?.map { (short($0.key), $0.size, $0.version) }
    }
}
