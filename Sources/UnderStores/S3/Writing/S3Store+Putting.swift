import Glibc
import Platform

extension S3Store {
    /// How often content is sent that arrives changed, by a store that notices it only afterwards.
    private static let mostDamaged = 3

    package func put(
        _ path: ByteString, _ body: UploadBody, _ metadata: WrittenMetadata, if condition: WriteCondition,
        seen look: ConditionLook?
    ) async throws(StoreError) -> ObjectAttributes {
        let key = try writableKey(path)
        guard UInt64(body.range.count) <= limits.largestPut else {
            throw StoreError(
                .tooLarge, "\(name(path)) has \(body.range.count) bytes, one PUT takes \(limits.largestPut)")
        }
        let headers = try MetadataHeaders.headers(
            of: metadata, contentType: ContentType.of(path), name: name(path))
        return try await putObject(key, .file(body), headers, if: condition, seen: look)
    }

    package func look(
        _ path: ByteString, for condition: WriteCondition
    ) async throws(StoreError) -> ConditionLook {
        let (key, asked) = (try writableKey(path), MonotonicClock.now())
        let found = try await objectHead(key).map { version($0) }
        guard condition.holds(of: found) else {
            if case .version = condition, found == nil {
                throw StoreError(.notFound, "\(name(path)) is gone")
            }
            throw changed(key, condition)
        }
        return ConditionLook(condition, asked: asked)
    }

    package func makeLink(
        _ path: ByteString, target: ByteString, _ metadata: WrittenMetadata, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        let key = try writableKey(path)
        guard (1...4095).contains(target.count) else {
            throw StoreError(.invalid, "the target of \(name(path)) has \(target.count) bytes, not 1 to 4095")
        }
        var metadata = metadata
        metadata.mode = S_IFLNK | ((metadata.mode ?? 0o777) & 0o7777)
        let headers = try MetadataHeaders.headers(of: metadata, contentType: ContentType.unknown, name: name(path))
        let made = try await putObject(key, .bytes(target.bytes), headers, if: condition)
        if try await !isEnforced(condition, on: key, byComplete: false) { try await confirm(made, at: key, condition) }
        return made
    }

    package func makeDirectory(
        _ path: ByteString, _ metadata: WrittenMetadata
    ) async throws(StoreError) -> ObjectAttributes {
        let key = try writableKey(path) + "/"
        guard key.count <= limits.longestKey else {
            throw StoreError(.nameTooLong, "the key of \(name(path)) is longer than \(limits.longestKey) bytes")
        }
        if traits.keepsMarkers == false { throw noMarkers(path) }
        var metadata = metadata
        metadata.mode = metadata.mode.map { S_IFDIR | ($0 & 0o7777) }
        metadata.contentType = ContentType.directory
        let headers = try MetadataHeaders.headers(of: metadata, contentType: ContentType.directory, name: name(path))
        var made = try await putObject(key, .bytes([]), headers, if: .none)
        if traits.keepsMarkers == nil {
            let listed = try await page(prefix: key, token: nil, limit: 1)
            traits.keepsMarkers = listed.objects.contains { $0.key == key } || !listed.commonPrefixes.isEmpty
            if traits.keepsMarkers == false {
                try await removeKey(key, [])
                throw noMarkers(path)
            }
        }
        made.kind = .directory
        made.size = 0
        made.version = nil
        return made
    }

    private func noMarkers(_ path: ByteString) -> StoreError {
        StoreError(.unsupported, "\(identity) keeps no empty directories: \(name(path)) exists with its first object")
    }

    package func removeDirectory(_ path: ByteString) async throws(StoreError) {
        guard traits.keepsMarkers != false else { return }
        try await removeKey(try rawKey(path) + "/", [])
    }

    // MARK: One PUT

    /// Sends the whole content as one object, checks what the store answers, and finds out what has become of it when
    /// an answer was lost.
    func putObject(
        _ key: ByteString, _ content: UploadContent, _ metadata: [(name: String, value: String)],
        if condition: WriteCondition, seen look: ConditionLook? = nil
    ) async throws(StoreError) -> ObjectAttributes {
        if try await !isEnforced(condition, on: key, byComplete: false),
            look?.covers(condition, at: MonotonicClock.now()) != true
        {
            try await check(condition, on: key)
        }
        var (condition, attempts) = (condition, 0)
        // What is in the way of the next attempt, here or by the caller, because this one has put it there.
        var left: ObjectVersion?
        while true {
            attempts += 1
            do throws(StoreError) {
                let digest = try await digest(of: content)
                let made = try await send(key, content, digest, metadata, if: condition)
                if let md5 = damage(made, digest) {
                    left = made.version
                    guard attempts < Self.mostDamaged else { throw damaged(key, md5) }
                    if condition != .none, let version = made.version { condition = .version(version) }
                    continue
                }
                left = nil
                return made
            } catch  where error.kind == .checksumMismatch && !content.hasGivenChecksum && attempts < Self.mostDamaged {
                // The bytes may have changed between the checksum and the sending.
                continue
            } catch {
                var error = error
                if error.kind != .versionChanged { error.made = left }
                throw error
            }
        }
    }

    /// Whether the store itself refuses a change of `key` for which `condition` does not hold. Asks it once.
    func isEnforced(
        _ condition: WriteCondition, on key: ByteString, byComplete: Bool
    ) async throws(StoreError) -> Bool {
        guard condition != .none else { return true }
        return try await behaviour(near: key).conditions.enforce(condition, byComplete: byComplete)
    }

    func digest(of content: UploadContent) async throws(StoreError) -> UploadDigest {
        try await UploadDigest.of(content, withMD5: traits.behaviour?.checksCRC32C != true)
    }

    private func send(
        _ key: ByteString, _ content: UploadContent, _ digest: UploadDigest,
        _ metadata: [(name: String, value: String)], if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        let headers = creationHeaders() + metadata + digest.headers + self.headers(of: condition)
        let sent = Lock(0)
        let response = try await client.perform {
            sent.withLock { $0 += 1 }
            var call = S3Call("s3:PutObject", .put, key: key, headers: headers, verb: .change)
            call.setContent(content)
            return call
        }
        guard response.isSuccess else {
            // A first try whose answer was lost may have made the very object that is in the way now. libcurl sends again by
            // itself, and tells nobody, when a connection that it had kept is closed before an answer.
            // Then the time of the last change, in nanoseconds, has to tell it from what somebody else made alike.
            if condition != .none,
                let ours = try await recognized(
                    key, content, digest, metadata, byTime: sent.withLock { $0 } == 1)
            {
                return ours
            }
            if response.status == 412 || condition != .none { throw changed(key, condition) }
            throw StoreError(.notFound, "s3://\(configuration.bucket)/\(key.description.printable) cannot be written")
        }
        client.meter.countSent(content.size)
        guard let tag = response.headers["etag"], !tag.isEmpty else {
            guard let headers = try await objectHead(key) else { throw changed(key, condition) }
            return try attributes(key, headers)
        }
        return try attributes(key, written(metadata, tag: tag, size: content.size, answer: response.headers))
    }

    /// The headers that a HEAD of a new object would have.
    func written(
        _ metadata: [(name: String, value: String)], tag: String, size: UInt64, answer: HTTPHeaders
    ) -> HTTPHeaders {
        var headers = HTTPHeaders(metadata)
        headers.append("etag", tag)
        headers.append("content-length", String(size))
        if let time = answer["last-modified"] ?? answer["date"] { headers.append("last-modified", time) }
        return headers
    }

    /// The object at `key`, if it is what we sent.
    /// - Parameter byTime: only when its time of the last change says so, too.
    private func recognized(
        _ key: ByteString, _ content: UploadContent, _ digest: UploadDigest,
        _ metadata: [(name: String, value: String)], byTime: Bool
    ) async throws(StoreError) -> ObjectAttributes? {
        let isTimed = metadata.contains { $0.name == MetadataHeaders.modified }
        if byTime, !isTimed { return nil }
        guard let headers = try await objectHead(key, [("x-amz-checksum-mode", "ENABLED")]),
            headers["content-length"] == String(content.size)
        else { return nil }
        for field in metadata where field.name.hasPrefix("x-amz-meta-") {
            if byTime, field.name == MetadataHeaders.modified, headers[field.name] == nil { return nil }
            if let stored = headers[field.name], stored != field.value { return nil }
        }
        var isOurs = headers["x-amz-checksum-crc32c"].map { UploadDigest.value(ofCRC32C: $0) == digest.crc32c } ?? false
        if !isOurs, let stored = headers["etag"].flatMap(UploadDigest.md5(ofTag:)) {
            var md5 = digest.md5
            if md5 == nil { md5 = try await UploadDigest.of(content, withMD5: true).md5 }
            isOurs = md5 == stored
        }
        return isOurs ? try attributes(key, headers) : nil
    }

    /// The MD5 of what the store has, when it is of other bytes than were sent.
    private func damage(_ made: ObjectAttributes, _ digest: UploadDigest) -> [UInt8]? {
        guard traits.behaviour?.tagsAreMD5 == true, let sent = digest.md5, configuration.tagsMayBeMD5,
            let version = made.version, let stored = UploadDigest.md5(ofTag: version.bytes.description), stored != sent
        else { return nil }
        return stored
    }

    private func damaged(_ key: ByteString, _ md5: [UInt8]) -> StoreError {
        StoreError(
            .checksumMismatch,
            "s3://\(configuration.bucket)/\(key.description.printable) arrived damaged: its MD5 is \(hexadecimal(md5))")
    }

    /// That the change was the last one, as far as a look afterwards can tell. Throws `.versionChanged`.
    func confirm(
        _ made: ObjectAttributes, at key: ByteString, _ condition: WriteCondition
    ) async throws(StoreError) {
        guard let found = try await objectHead(key), made.version == nil || version(found) == made.version else {
            throw changed(key, condition)
        }
    }
}

extension S3Configuration {
    /// Neither with KMS nor with a customer's key is an ETag an MD5 ("Object", Amazon S3 API Reference).
    var tagsMayBeMD5: Bool {
        sseCustomerKey == nil && (serverSideEncryption == nil || serverSideEncryption == "AES256")
    }
}

extension S3Call {
    mutating func setContent(_ content: UploadContent) {
        patience = 4
        switch content {
        case .bytes(let bytes): body = bytes
        case .file(let file) where file.range.isEmpty: body = []
        case .file(let file): upload = file
        }
    }
}
