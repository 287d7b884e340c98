import Crypto
import Glibc
import Platform

extension MemoryStore: ObjectWriting {
    package var objectWriting: (any ObjectWriting)? { self }

    package var limits: ObjectLimits { writes.withLock { $0.limits } }
    package var conditions: EnforcedConditions { writes.withLock { $0.conditions } }
    package var wantsMD5: Bool { writes.withLock { $0.wantsMD5 } }
    package var requirements: [StoreRequirement] { conditions.requirements }

    /// Changes what is enforced from now on.
    package func enforce(_ conditions: EnforcedConditions) { writes.withLock { $0.conditions = conditions } }

    package func probeConditions(in directory: ByteString) async throws(StoreError) -> EnforcedConditions {
        calls.record(.probeConditions, directory)
        return writes.withLock {
            $0.conditions.isKnown = true
            return $0.conditions
        }
    }

    package func metadata(
        of path: ByteString
    ) async throws(StoreError) -> (metadata: WrittenMetadata, attributes: ObjectAttributes)? {
        calls.record(.metadata, path)
        guard let object = state.withLock({ $0.objects[path] }) else { return nil }
        let isMarker = path.bytes.last == UInt8(ascii: "/")
        return (
            object.metadata,
            isMarker ? MemoryObjects.attributes(object, kind: .directory) : MemoryObjects.file(object)
        )
    }

    // MARK: Objects

    package func put(
        _ path: ByteString, _ body: UploadBody, _ metadata: WrittenMetadata, if condition: WriteCondition,
        seen look: ConditionLook?
    ) async throws(StoreError) -> ObjectAttributes {
        calls.record(.put, path, range: body.range)
        try checkName(path)
        guard UInt64(body.range.count) <= limits.largestPut else {
            throw StoreError(.tooLarge, "\(identity)/\(path) is larger than \(limits.largestPut) bytes")
        }
        return try replace(path, try bytes(of: body), try checked(metadata, path), if: condition, seen: look)
    }

    package func look(
        _ path: ByteString, for condition: WriteCondition
    ) async throws(StoreError) -> ConditionLook {
        calls.record(.look, path)
        let asked = MonotonicClock.now()
        let found = state.withLock { $0.objects[path]?.version }
        guard condition.holds(of: found) else {
            if case .version = condition, found == nil {
                throw StoreError(.notFound, "\(identity)/\(path) is gone")
            }
            throw changed(path)
        }
        return ConditionLook(condition, asked: asked)
    }

    package func makeLink(
        _ path: ByteString, target: ByteString, _ metadata: WrittenMetadata, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        calls.record(.makeLink, path)
        try checkName(path)
        guard (1...4095).contains(target.count) else {
            throw StoreError(.invalid, "the target of \(identity)/\(path) has \(target.count) bytes, not 1 to 4095")
        }
        var metadata = try checked(metadata, path)
        metadata.mode = S_IFLNK | ((metadata.mode ?? 0o777) & 0o7777)
        return try replace(path, target.bytes, metadata, if: condition)
    }

    package func makeDirectory(
        _ path: ByteString, _ metadata: WrittenMetadata
    ) async throws(StoreError) -> ObjectAttributes {
        calls.record(.makeDirectory, path)
        try checkName(path)
        var metadata = try checked(metadata, path)
        metadata.mode = metadata.mode.map { S_IFDIR | ($0 & 0o7777) }
        metadata.contentType = ContentType.directory
        let marker = ByteString(path.bytes + [UInt8(ascii: "/")])
        try checkName(marker)
        let written = metadata
        return state.withLock {
            $0.put(marker, [], written)
            return $0.attributes(of: path) ?? ObjectAttributes(kind: .directory, modified: FileTime(seconds: 0))
        }
    }

    package func removeDirectory(_ path: ByteString) async throws(StoreError) {
        calls.record(.removeDirectory, path)
        _ = state.withLock { $0.remove(ByteString(path.bytes + [UInt8(ascii: "/")])) }
    }

    package func remove(_ path: ByteString, if condition: WriteCondition) async throws(StoreError) {
        calls.record(.remove, path)
        let holds = state.withLock { objects in
            guard let found = objects.objects[path] else { return true }
            guard condition.holds(of: found.version) else { return false }
            return objects.remove(path)
        }
        guard holds else { throw changed(path) }
    }

    package func removeAll(
        _ paths: [ByteString]
    ) async throws(StoreError) -> [(path: ByteString, error: StoreError)] {
        calls.record(.removeAll, paths.first ?? "")
        state.withLock { objects in for path in paths { _ = objects.remove(path) } }
        return []
    }

    // MARK: Copies

    package func copy(
        _ source: ByteString, expecting version: ObjectVersion?, to path: ByteString, metadata: WrittenMetadata?,
        if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        calls.record(.copy, source)
        try checkName(path)
        let replacement = try metadata.map { metadata throws(StoreError) in try checked(metadata, path) }
        let found = try object(source, expecting: version)
        return try replace(path, found.bytes, replacement ?? found.metadata, if: condition)
    }

    package func copyKey(_ key: ByteString, to destination: ByteString) async throws(StoreError) {
        calls.record(.copyKey, key)
        let found = try object(key, expecting: nil)
        _ = state.withLock { $0.put(destination, found.bytes, found.metadata) }
    }

    package func keys(under path: ByteString) -> any KeyListing {
        MemoryKeyListing(store: self, path: path)
    }

    // MARK: Uploads

    package func beginUpload(
        _ path: ByteString, _ metadata: WrittenMetadata
    ) async throws(StoreError) -> UploadID {
        calls.record(.beginUpload, path)
        try checkName(path)
        let metadata = try checked(metadata, path)
        return writes.withLock { $0.begin(path, metadata) }
    }

    package func uploadPart(
        _ upload: UploadID, of path: ByteString, number: Int, _ body: UploadBody
    ) async throws(StoreError) -> UploadedPart {
        calls.record(.uploadPart, path, range: body.range)
        return try add(try bytes(of: body), as: number, to: upload, of: path)
    }

    package func copyPart(
        _ upload: UploadID, of path: ByteString, number: Int, from source: ByteString, range: Range<UInt64>,
        expecting version: ObjectVersion?
    ) async throws(StoreError) -> UploadedPart {
        calls.record(.copyPart, path, range: range)
        let found = try object(source, expecting: version)
        guard !range.isEmpty, range.upperBound <= UInt64(found.bytes.count) else {
            throw StoreError(.invalid, "\(identity)/\(source) has no bytes \(range)")
        }
        return try add(
            Array(found.bytes[Int(range.lowerBound)..<Int(range.upperBound)]), as: number, to: upload, of: path)
    }

    package func completeUpload(
        _ upload: UploadID, of path: ByteString, parts: [UploadedPart], size: UInt64, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        calls.record(.completeUpload, path)
        let (found, limits) = writes.withLock { ($0.uploads[upload], $0.limits) }
        guard let found, found.key == path else { throw gone(path) }
        var whole: [UInt8] = []
        for (index, part) in parts.enumerated() {
            guard let bytes = found.parts[part.number], MemoryWrites.tag(bytes) == part.tag,
                index == 0 || parts[index - 1].number < part.number
            else { throw StoreError(.invalid, "part \(part.number) of \(identity)/\(path) was not uploaded so") }
            guard index == parts.count - 1 || UInt64(bytes.count) >= limits.smallestPart else {
                throw StoreError(.invalid, "part \(part.number) of \(identity)/\(path) is too small")
            }
            whole += bytes
        }
        guard !parts.isEmpty, UInt64(whole.count) == size, size <= limits.largestObject else {
            throw StoreError(.invalid, "the parts of \(identity)/\(path) do not make \(size) bytes")
        }
        let made = try replace(path, whole, found.metadata, if: condition, byComplete: true)
        writes.withLock { $0.end(upload) }
        return made
    }

    package func abortUpload(_ upload: UploadID, of path: ByteString) async throws(StoreError) {
        calls.record(.abortUpload, path)
        writes.withLock { $0.end(upload) }
    }

    package func uploads(under directory: ByteString) async throws(StoreError) -> [PendingUpload] {
        calls.record(.uploads, directory)
        let prefix = directory.isEmpty ? directory : ByteString(directory.bytes + [UInt8(ascii: "/")])
        return uploads { $0.hasPrefix(prefix) }
    }

    package func uploads(of path: ByteString) async throws(StoreError) -> [PendingUpload] {
        calls.record(.uploads, path)
        return uploads { $0 == path }
    }

    private func uploads(where isMeant: (ByteString) -> Bool) -> [PendingUpload] {
        writes.withLock { writes in
            writes.uploads.filter { isMeant($0.value.key) }
                .map { PendingUpload(path: $0.value.key, upload: $0.key, started: $0.value.started) }
                .sorted { $0.started < $1.started }
        }
    }
}

extension MemoryStore {
    private func add(
        _ bytes: [UInt8], as number: Int, to upload: UploadID, of path: ByteString
    ) throws(StoreError) -> UploadedPart {
        let limits = limits
        guard (1...limits.parts).contains(number), UInt64(bytes.count) <= limits.largestPart else {
            throw StoreError(.tooLarge, "part \(number) of \(identity)/\(path) is beyond the limits")
        }
        guard writes.withLock({ $0.add(bytes, as: number, to: upload) }) else { throw gone(path) }
        return UploadedPart(
            number: number, tag: MemoryWrites.tag(bytes), size: UInt64(bytes.count),
            checksum: bytes.withUnsafeBytes { CRC32C.of($0) })
    }

    /// Where the condition is not enforced, it is looked at before, with a window between as on a real store.
    private func replace(
        _ path: ByteString, _ bytes: [UInt8], _ metadata: WrittenMetadata, if condition: WriteCondition,
        seen look: ConditionLook? = nil, byComplete: Bool = false
    ) throws(StoreError) -> ObjectAttributes {
        let isEnforced = conditions.enforce(condition, byComplete: byComplete)
        if !isEnforced, look?.covers(condition, at: MonotonicClock.now()) != true {
            let found = state.withLock { $0.objects[path]?.version }
            guard condition.holds(of: found) else { throw changed(path) }
        }
        let made: MemoryObjects.Object? = state.withLock { objects in
            guard !isEnforced || condition.holds(of: objects.objects[path]?.version) else { return nil }
            objects.put(path, bytes, metadata)
            return objects.objects[path]
        }
        guard let made else { throw changed(path) }
        return MemoryObjects.file(made)
    }

    private func object(
        _ path: ByteString, expecting version: ObjectVersion?
    ) throws(StoreError) -> MemoryObjects.Object {
        guard let found = state.withLock({ $0.objects[path] }) else {
            throw StoreError(.notFound, "\(identity)/\(path) does not exist")
        }
        guard version == nil || version == found.version else { throw changed(path) }
        return found
    }

    private func bytes(of body: UploadBody) throws(StoreError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: body.range.count)
        do {
            let count = try bytes.withUnsafeMutableBytes { try body.file.read(into: $0, at: body.range.lowerBound) }
            guard count == bytes.count else {
                throw StoreError(.inputOutput, "a file to be sent ends at byte \(count)")
            }
        } catch { throw error as? StoreError ?? StoreError(.inputOutput, "a file to be sent cannot be read: \(error)") }
        if let checksum = body.checksum, checksum != bytes.withUnsafeBytes({ CRC32C.of($0) }) {
            throw StoreError(.checksumMismatch, "\(identity) received other bytes than were meant")
        }
        if let md5 = body.md5 {
            guard md5 == Array(Insecure.MD5.hash(data: bytes)) else {
                throw StoreError(.checksumMismatch, "\(identity) received bytes of another MD5 than was meant")
            }
            writes.withLock { $0.bodiesWithMD5 += 1 }
        }
        return bytes
    }

    /// The names and metadata that S3 takes, so that models and S3 agree.
    private func checkName(_ path: ByteString) throws(StoreError) {
        guard !path.isEmpty, String(validating: path.bytes, as: UTF8.self) != nil else {
            throw StoreError(.invalid, "\(identity)/\(path) is no key")
        }
        let isTooLong = path.bytes.split(separator: UInt8(ascii: "/")).contains { $0.count > 255 }
        guard path.count <= limits.longestKey, !isTooLong else {
            throw StoreError(.nameTooLong, "\(identity)/\(path) is too long for a key")
        }
    }

    private func checked(_ metadata: WrittenMetadata, _ path: ByteString) throws(StoreError) -> WrittenMetadata {
        _ = try MetadataHeaders.headers(of: metadata, contentType: ContentType.unknown, name: "\(identity)/\(path)")
        var metadata = metadata
        metadata.contentType = metadata.contentType ?? ContentType.of(path)
        return metadata
    }

    private func changed(_ path: ByteString) -> StoreError {
        StoreError(.versionChanged, "\(identity)/\(path) is not what it was expected to be")
    }

    private func gone(_ path: ByteString) -> StoreError {
        StoreError(.notFound, "the upload of \(identity)/\(path) is gone: aborted or completed")
    }
}

/// Continues after the last key it has shown, as an S3 listing does.
private final class MemoryKeyListing: KeyListing {
    private let store: MemoryStore
    private let path: ByteString
    private let position = Lock<(last: ByteString?, isFinished: Bool)>((nil, false))

    init(store: MemoryStore, path: ByteString) {
        self.store = store
        self.path = path
    }

    func nextPage() async throws(StoreError) -> [(key: ByteString, size: UInt64, version: ObjectVersion?)]? {
        let (last, isFinished) = position.withLock { $0 }
        guard !isFinished else { return nil }
        store.calls.record(.keyPage, path)
        if Task.isCancelled { throw .cancelled }
        let prefix = path.isEmpty ? path : ByteString(path.bytes + [UInt8(ascii: "/")])
        let keys = store.state.withLock { objects in
            objects.keys(with: prefix, after: last, limit: store.pageSize).compactMap { key in
                objects.objects[key].map {
                    (key: key, size: UInt64($0.bytes.count), version: Optional($0.version))
                }
            }
        }
        position.withLock { $0 = (keys.last?.key, keys.count < store.pageSize) }
        return keys
    }
}
