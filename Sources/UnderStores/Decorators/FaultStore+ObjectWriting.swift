import Platform

extension FaultStore: ObjectWriting {
    package var objectWriting: (any ObjectWriting)? { base.objectWriting == nil ? nil : self }
    package var limits: ObjectLimits { base.objectWriting?.limits ?? ObjectLimits() }
    package var conditions: EnforcedConditions { base.objectWriting?.conditions ?? EnforcedConditions() }
    package var wantsMD5: Bool { base.objectWriting?.wantsMD5 ?? false }
    package var requirements: [StoreRequirement] { base.objectWriting?.requirements ?? [] }

    package func probeConditions(in directory: ByteString) async throws(StoreError) -> EnforcedConditions {
        try await change(.probeConditions, directory) { writer throws(StoreError) in
            try await writer.probeConditions(in: directory)
        }
    }

    package func metadata(
        of path: ByteString
    ) async throws(StoreError) -> (metadata: WrittenMetadata, attributes: ObjectAttributes)? {
        try await change(.metadata, path) { writer throws(StoreError) in try await writer.metadata(of: path) }
    }

    package func put(
        _ path: ByteString, _ body: UploadBody, _ metadata: WrittenMetadata, if condition: WriteCondition,
        seen look: ConditionLook?
    ) async throws(StoreError) -> ObjectAttributes {
        try await change(.put, path, range: body.range) { writer throws(StoreError) in
            try await writer.put(path, body, metadata, if: condition, seen: look)
        }
    }

    package func look(
        _ path: ByteString, for condition: WriteCondition
    ) async throws(StoreError) -> ConditionLook {
        try await change(.look, path) { writer throws(StoreError) in try await writer.look(path, for: condition) }
    }

    package func beginUpload(_ path: ByteString, _ metadata: WrittenMetadata) async throws(StoreError) -> UploadID {
        try await change(.beginUpload, path) { writer throws(StoreError) in
            try await writer.beginUpload(path, metadata)
        }
    }

    package func uploadPart(
        _ upload: UploadID, of path: ByteString, number: Int, _ body: UploadBody
    ) async throws(StoreError) -> UploadedPart {
        try await change(.uploadPart, path, range: body.range) { writer throws(StoreError) in
            try await writer.uploadPart(upload, of: path, number: number, body)
        }
    }

    package func copyPart(
        _ upload: UploadID, of path: ByteString, number: Int, from source: ByteString, range: Range<UInt64>,
        expecting version: ObjectVersion?
    ) async throws(StoreError) -> UploadedPart {
        try await change(.copyPart, path, range: range) { writer throws(StoreError) in
            try await writer.copyPart(
                upload, of: path, number: number, from: source, range: range, expecting: version)
        }
    }

    package func completeUpload(
        _ upload: UploadID, of path: ByteString, parts: [UploadedPart], size: UInt64, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        try await change(.completeUpload, path) { writer throws(StoreError) in
            try await writer.completeUpload(upload, of: path, parts: parts, size: size, if: condition)
        }
    }

    package func abortUpload(_ upload: UploadID, of path: ByteString) async throws(StoreError) {
        try await change(.abortUpload, path) { writer throws(StoreError) in
            try await writer.abortUpload(upload, of: path)
        }
    }

    package func uploads(under directory: ByteString) async throws(StoreError) -> [PendingUpload] {
        try await change(.uploads, directory) { writer throws(StoreError) in try await writer.uploads(under: directory)
        }
    }

    package func uploads(of path: ByteString) async throws(StoreError) -> [PendingUpload] {
        try await change(.uploads, path) { writer throws(StoreError) in try await writer.uploads(of: path) }
    }

    package func copy(
        _ source: ByteString, expecting version: ObjectVersion?, to path: ByteString, metadata: WrittenMetadata?,
        if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        try await change(.copy, source) { writer throws(StoreError) in
            try await writer.copy(source, expecting: version, to: path, metadata: metadata, if: condition)
        }
    }

    package func remove(_ path: ByteString, if condition: WriteCondition) async throws(StoreError) {
        try await change(.remove, path) { writer throws(StoreError) in try await writer.remove(path, if: condition) }
    }

    package func removeAll(
        _ paths: [ByteString]
    ) async throws(StoreError) -> [(path: ByteString, error: StoreError)] {
        try await change(.removeAll, paths.first ?? "") { writer throws(StoreError) in
            try await writer.removeAll(paths)
        }
    }

    package func makeDirectory(
        _ path: ByteString, _ metadata: WrittenMetadata
    ) async throws(StoreError) -> ObjectAttributes {
        try await change(.makeDirectory, path) { writer throws(StoreError) in
            try await writer.makeDirectory(path, metadata)
        }
    }

    package func removeDirectory(_ path: ByteString) async throws(StoreError) {
        try await change(.removeDirectory, path) { writer throws(StoreError) in
            try await writer.removeDirectory(path)
        }
    }

    package func makeLink(
        _ path: ByteString, target: ByteString, _ metadata: WrittenMetadata, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        try await change(.makeLink, path) { writer throws(StoreError) in
            try await writer.makeLink(path, target: target, metadata, if: condition)
        }
    }

    package func keys(under path: ByteString) -> any KeyListing {
        FaultyKeys(base: base.objectWriting?.keys(under: path), path: path, store: self)
    }

    package func copyKey(_ key: ByteString, to destination: ByteString) async throws(StoreError) {
        try await change(.copyKey, key) { writer throws(StoreError) in try await writer.copyKey(key, to: destination) }
    }
}

private final class FaultyKeys: KeyListing {
    private let base: (any KeyListing)?
    private let path: ByteString
    private let store: FaultStore

    init(base: (any KeyListing)?, path: ByteString, store: FaultStore) {
        self.base = base
        self.path = path
        self.store = store
    }

    func nextPage() async throws(StoreError) -> [(key: ByteString, size: UInt64, version: ObjectVersion?)]? {
        _ = try await store.strike(.keyPage, path)
        return try await base?.nextPage()
    }
}
