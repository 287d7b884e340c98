import Platform

extension S3Store {
    /// Parts of a copy that are under way at once.
    private static let copiesAtOnce = 8
    /// Where the bounds allow it: large enough to be few, small enough for several at once.
    private static let usualCopyPart: UInt64 = 512 << 20

    package func copy(
        _ source: ByteString, expecting version: ObjectVersion?, to path: ByteString, metadata: WrittenMetadata?,
        if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        let (sourceKey, key) = (try rawKey(source), try writableKey(path))
        guard let found = try await objectHead(sourceKey) else {
            throw StoreError(.notFound, "there is no \(name(source))")
        }
        let sourceVersion = self.version(found)
        if let version, version != sourceVersion { throw changed(sourceKey, .version(version)) }
        try await check(condition, on: key)
        if sourceKey == key, metadata == nil { return try attributes(key, found) }
        let replacement = try metadata.map { metadata throws(StoreError) in
            try MetadataHeaders.headers(of: metadata, contentType: ContentType.of(path), name: name(path))
        }
        let made = try await copyObject(
            sourceKey, found, expecting: version == nil ? nil : sourceVersion, to: key, replacement, if: condition)
        if condition != .none { try await confirm(made, at: key, condition) }
        return made
    }

    package func copyKey(_ key: ByteString, to destination: ByteString) async throws(StoreError) {
        let (source, destination) = (try rawKey(key), try rawKey(destination))
        guard try await behaviour(near: source).copies else { throw noCopies(source) }
        if source.bytes.last == UInt8(ascii: "/"), let found = try await objectHead(source),
            found["content-length"] == "0"
        {
            // Some stores have directories of their own below markers, and do not copy those.
            let headers = try MetadataHeaders.headers(
                of: MetadataHeaders.metadata(of: found), contentType: ContentType.directory, name: name(key))
            _ = try await putObject(destination, .bytes([]), headers, if: .none)
            return
        }
        do throws(StoreError) {
            _ = try await copyOnce(source, expecting: nil, to: destination, nil, sourceHeaders: nil, if: .none)
        } catch {
            // S3 says no more of a source beyond 5 GiB than that the request is invalid.
            guard error.kind == .invalid || error.kind == .tooLarge, let found = try await objectHead(source),
                let size = found["content-length"].flatMap({ UInt64($0) }), size > limits.largestPut
            else { throw error }
            _ = try await copyObject(source, found, expecting: version(found), to: destination, nil, if: .none)
        }
    }

    private func noCopies(_ key: ByteString) -> StoreError {
        StoreError(.unsupported, "\(identity) does not copy objects: read \(key.description.printable) and write it")
    }

    /// - Parameters:
    ///   - found: the headers of the source.
    ///   - metadata: the headers that replace the source's; nil keeps them.
    private func copyObject(
        _ source: ByteString, _ found: HTTPHeaders, expecting version: ObjectVersion?, to key: ByteString,
        _ metadata: [(name: String, value: String)]?, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        let behaviour = try await behaviour(near: key)
        guard behaviour.copies else { throw noCopies(source) }
        let size = found["content-length"].flatMap { UInt64($0) } ?? 0
        guard size > limits.largestPut else {
            return try await copyOnce(
                source, expecting: version, to: key, metadata, sourceHeaders: found, if: condition)
        }
        guard behaviour.copiesParts else { throw noCopies(source) }
        return try await copyInParts(source, found, size: size, to: key, metadata, if: condition)
    }

    /// CopyObject; `sourceHeaders` tell what the copy will have.
    private func copyOnce(
        _ source: ByteString, expecting version: ObjectVersion?, to key: ByteString,
        _ metadata: [(name: String, value: String)]?, sourceHeaders: HTTPHeaders?, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        var headers = creationHeaders(isCopy: true) + copySource(source, expecting: version)
        headers += self.headers(of: condition)
        if configuration.storageClass == nil, let kept = sourceHeaders?["x-amz-storage-class"], kept != "STANDARD" {
            headers.append(("x-amz-storage-class", kept))
        }
        if let metadata { headers += [("x-amz-metadata-directive", "REPLACE")] + metadata }
        let (all, sent) = (headers, Lock(0))
        let response = try await client.perform {
            sent.withLock { $0 += 1 }
            return Self.copyCall(key, [], all)
        }
        guard response.isSuccess else {
            if response.status == 404 {
                throw StoreError(
                    .notFound, "there is no s3://\(configuration.bucket)/\(source.description.printable)")
            }
            // Which of the two it was, a look at the destination tells; after a lost answer, it may be ours.
            if sent.withLock({ $0 }) > 1, let sourceHeaders, let found = try await objectHead(key),
                found["etag"] == sourceHeaders["etag"], found["content-length"] == sourceHeaders["content-length"]
            {
                return try attributes(key, found)
            }
            try await check(condition, on: key)
            throw changed(source, version.map { .version($0) } ?? .none)
        }
        guard let result = S3AnswerDocument(response.body), let tag = result.fields["ETag"], !tag.isEmpty else {
            // The probe has seen it copy, so it may have done so now without saying it.
            guard let sourceHeaders, let found = try await objectHead(key),
                found["content-length"] == sourceHeaders["content-length"]
            else { throw noCopies(source) }
            return try attributes(key, found)
        }
        guard let sourceHeaders else { return ObjectAttributes(kind: .file, modified: FileTime(seconds: 0)) }
        let modified = result.fields["LastModified"].flatMap { CivilTime(iso8601: $0) }
        var kept = HTTPHeaders()
        if let metadata {
            kept = HTTPHeaders(metadata)
        } else {
            for field in sourceHeaders.fields
            where !["etag", "content-length", "last-modified"].contains(field.name.lowercased()) {
                kept.append(field.name, field.value)
            }
        }
        var answer = response.headers
        if let modified { answer = HTTPHeaders([("last-modified", modified.httpDate)]) }
        let size = sourceHeaders["content-length"].flatMap { UInt64($0) } ?? 0
        return try attributes(key, written(kept.fields, tag: tag, size: size, answer: answer))
    }

    static func copyCall(
        _ key: ByteString, _ query: [(name: String, value: String)], _ headers: [(name: String, value: String)]
    ) -> S3Call {
        var call = S3Call("s3:PutObject", .put, key: key, query: query, headers: headers, body: [], verb: .change)
        call.mayFailLate = true
        call.patience = 20
        return call
    }

    func copySource(
        _ source: ByteString, expecting version: ObjectVersion?
    ) -> [(name: String, value: String)] {
        let path = "/\(configuration.bucket)/\(PercentEncoding.encode(source.bytes, keepsSlashes: true))"
        var headers = [(name: "x-amz-copy-source", value: path)]
        for field in configuration.sseCustomerKey?.headers ?? [] {
            let name = field.name.replacingPrefix("x-amz-", with: "x-amz-copy-source-")
            headers.append((name, field.value))
        }
        // A version by time has only a condition that CopyObject knows under another name, and copies need not have.
        if let version, case let condition = ObjectMetadata.condition(version), condition.name == "If-Match" {
            headers.append(("x-amz-copy-source-if-match", condition.value))
        }
        return headers
    }

    private func copyInParts(
        _ source: ByteString, _ found: HTTPHeaders, size: UInt64, to key: ByteString,
        _ metadata: [(name: String, value: String)]?, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        let kept: [(name: String, value: String)]
        if let metadata {
            kept = metadata
        } else {
            kept = try MetadataHeaders.headers(
                of: MetadataHeaders.metadata(of: found), contentType: ContentType.unknown,
                name: key.description.printable)
        }
        let length = max(
            limits.smallestPart, min(limits.largestPart, Self.usualCopyPart),
            (size + UInt64(limits.parts) - 1) / UInt64(limits.parts))
        guard length <= limits.largestPart, size <= limits.largestObject else {
            throw StoreError(.tooLarge, "an object of \(size) bytes is larger than \(limits.largestObject)")
        }
        let upload = try await beginUpload(key: key, kept)
        do throws(StoreError) {
            let version = version(found)
            var ranges: [Range<UInt64>] = []
            var start: UInt64 = 0
            while start < size {
                ranges.append(start..<min(start + length, size))
                start += length
            }
            let parts = try await copyParts(upload, ranges, of: key, from: source, expecting: version)
            return try await complete(upload, key: key, parts: parts, size: size, if: condition)
        } catch {
            // In a task of its own: this one may have been cancelled.
            _ = await Task { try? await self.abortUpload(upload, key: key) }.value
            throw error
        }
    }

    private func copyParts(
        _ upload: UploadID, _ ranges: [Range<UInt64>], of key: ByteString, from source: ByteString,
        expecting version: ObjectVersion
    ) async throws(StoreError) -> [UploadedPart] {
        // A group without results, as optimised builds of Swift 6.3 trap on some that have them.
        let progress = Lock(CopyProgress(count: ranges.count))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<min(Self.copiesAtOnce, ranges.count) {
                group.addTask {
                    while let index = progress.withLock({ $0.take() }) {
                        do throws(StoreError) {
                            let part = try await self.copyPart(
                                upload, key: key, number: index + 1, from: source, range: ranges[index],
                                expecting: version)
                            progress.withLock { $0.parts[index] = part }
                        } catch {
                            progress.withLock { $0.failure = $0.failure ?? error }
                        }
                    }
                }
            }
        }
        let (parts, failure) = progress.withLock { ($0.parts, $0.failure) }
        if let failure { throw failure }
        return parts.compactMap { $0 }
    }

    private struct CopyProgress {
        var parts: [UploadedPart?]
        var failure: StoreError?
        private var next = 0

        init(count: Int) { parts = Array(repeating: nil, count: count) }

        /// The index of a part that nobody has begun; nil at the end, or after a failure.
        mutating func take() -> Int? {
            guard failure == nil, next < parts.count else { return nil }
            defer { next += 1 }
            return next
        }
    }
}

extension String {
    /// Another beginning, for text that has this one.
    fileprivate func replacingPrefix(_ prefix: String, with other: String) -> String {
        hasPrefix(prefix) ? other + dropFirst(prefix.count) : self
    }
}
