import Platform

extension S3Store {
    package func beginUpload(
        _ path: ByteString, _ metadata: WrittenMetadata
    ) async throws(StoreError) -> UploadID {
        let key = try writableKey(path)
        let headers = try MetadataHeaders.headers(of: metadata, contentType: ContentType.of(path), name: name(path))
        return try await beginUpload(key: key, headers)
    }

    /// CreateMultipartUpload. An answer that is lost leaves an upload behind; `uploads(of:)` finds it.
    func beginUpload(
        key: ByteString, _ metadata: [(name: String, value: String)]
    ) async throws(StoreError) -> UploadID {
        let headers = creationHeaders() + metadata + [(name: "x-amz-checksum-algorithm", value: "CRC32C")]
        let response = try await client.perform {
            S3Call("s3:PutObject", .post, key: key, query: [("uploads", "")], headers: headers, body: [], verb: .change)
        }
        guard let id = S3AnswerDocument(response.body)?.fields["UploadId"], !id.isEmpty else {
            throw StoreError(.protocolViolation, "\(identity) began an upload without naming it")
        }
        return UploadID(id)
    }

    package func uploadPart(
        _ upload: UploadID, of path: ByteString, number: Int, _ body: UploadBody
    ) async throws(StoreError) -> UploadedPart {
        try await uploadPart(upload, key: writableKey(path), number: number, .file(body))
    }

    func uploadPart(
        _ upload: UploadID, key: ByteString, number: Int, _ content: UploadContent
    ) async throws(StoreError) -> UploadedPart {
        guard content.size <= limits.largestPart, (1...limits.parts).contains(number) else {
            throw StoreError(.tooLarge, "part \(number) of \(content.size) bytes is beyond the limits of S3")
        }
        var attempts = 0
        while true {
            attempts += 1
            let digest = try await digest(of: content)
            do throws(StoreError) {
                let part = try await send(upload, key: key, number: number, content, digest)
                // A part that arrived damaged is replaced by sending it again.
                guard let sent = digest.md5, traits.behaviour?.tagsAreMD5 == true, configuration.tagsMayBeMD5,
                    let stored = UploadDigest.md5(ofTag: part.tag), stored != sent
                else { return part }
                guard attempts < 3 else {
                    throw StoreError(
                        .checksumMismatch,
                        "part \(number) of \(key.description.printable) arrived damaged at \(identity)")
                }
            } catch  where error.kind == .checksumMismatch && !content.hasGivenChecksum && attempts < 3 {
                continue
            }
        }
    }

    private func send(
        _ upload: UploadID, key: ByteString, number: Int, _ content: UploadContent, _ digest: UploadDigest
    ) async throws(StoreError) -> UploadedPart {
        let headers = objectHeaders + digest.headers
        let response = try await client.perform {
            var call = S3Call(
                "s3:PutObject", .put, key: key,
                query: [("partNumber", String(number)), ("uploadId", upload.text)], headers: headers, verb: .change)
            call.setContent(content)
            return call
        }
        guard response.isSuccess else { throw gone(upload, key) }
        client.meter.countSent(content.size)
        guard let tag = response.headers["etag"], !tag.isEmpty else {
            throw StoreError(.protocolViolation, "\(identity) took part \(number) without answering its ETag")
        }
        return UploadedPart(number: number, tag: tag, size: content.size, checksum: digest.crc32c)
    }

    func gone(_ upload: UploadID, _ key: ByteString) -> StoreError {
        StoreError(
            .notFound,
            "the upload of s3://\(configuration.bucket)/\(key.description.printable) is gone: aborted or completed")
    }

    package func copyPart(
        _ upload: UploadID, of path: ByteString, number: Int, from source: ByteString, range: Range<UInt64>,
        expecting version: ObjectVersion?
    ) async throws(StoreError) -> UploadedPart {
        let (key, source) = (try writableKey(path), try rawKey(source))
        let behaviour = try await behaviour(near: key)
        guard behaviour.copies, behaviour.copiesParts else {
            throw StoreError(.unsupported, "\(identity) does not copy parts of objects")
        }
        if let version, !behaviour.checksCopySource { try await check(.version(version), on: source) }
        return try await copyPart(upload, key: key, number: number, from: source, range: range, expecting: version)
    }

    /// UploadPartCopy.
    func copyPart(
        _ upload: UploadID, key: ByteString, number: Int, from source: ByteString, range: Range<UInt64>,
        expecting version: ObjectVersion?
    ) async throws(StoreError) -> UploadedPart {
        guard !range.isEmpty else { throw StoreError(.invalid, "a copied part cannot be empty") }
        let headers =
            objectHeaders + copySource(source, expecting: version)
            + [(name: "x-amz-copy-source-range", value: "bytes=\(range.lowerBound)-\(range.upperBound - 1)")]
        let response = try await client.perform {
            Self.copyCall(key, [("partNumber", String(number)), ("uploadId", upload.text)], headers)
        }
        switch response.status {
        case 200..<300: break
        case 412: throw changed(source, version.map { .version($0) } ?? .none)
        case 404 where S3ErrorDocument(response.body)?.code == "NoSuchKey":
            throw StoreError(.notFound, "there is no s3://\(configuration.bucket)/\(source.description.printable)")
        case 416: throw changed(source, version.map { .version($0) } ?? .none)
        default: throw gone(upload, key)
        }
        guard let fields = S3AnswerDocument(response.body)?.fields, let tag = fields["ETag"], !tag.isEmpty else {
            throw StoreError(.unsupported, "\(identity) does not copy parts of objects")
        }
        return UploadedPart(
            number: number, tag: tag, size: UInt64(range.count),
            checksum: fields["ChecksumCRC32C"].flatMap { UploadDigest.value(ofCRC32C: $0) })
    }

    package func completeUpload(
        _ upload: UploadID, of path: ByteString, parts: [UploadedPart], size: UInt64, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        try await complete(upload, key: writableKey(path), parts: parts, size: size, if: condition)
    }

    func complete(
        _ upload: UploadID, key: ByteString, parts: [UploadedPart], size: UInt64, if condition: WriteCondition
    ) async throws(StoreError) -> ObjectAttributes {
        guard !parts.isEmpty, size == parts.reduce(0, { $0 + $1.size }), size <= limits.largestObject else {
            throw StoreError(.invalid, "the parts of \(key.description.printable) do not make \(size) bytes")
        }
        let isEnforced = try await isEnforced(condition, on: key, byComplete: true)
        if !isEnforced { try await check(condition, on: key) }
        let (response, attempts) = try await sendCompletion(upload, key: key, parts: parts, size: size, if: condition)
        let expected = UploadDigest.tag(ofParts: parts.map(\.tag))
        guard response.isSuccess else {
            // A first try whose answer was lost may have completed it; of one that libcurl made nobody is told.
            if let found = try await objectHead(key), found["content-length"] == String(size) {
                let isOurs = expected.map { version(found) == ObjectVersion(ByteString($0)) } ?? false
                let mayBeOurs = expected == nil || traits.behaviour?.completionTellsTag == false
                if isOurs || (mayBeOurs && attempts > 1) { return try attributes(key, found) }
            }
            let code = S3ErrorDocument(response.body)?.code
            guard response.status == 412 || (code == "NoSuchKey" && condition != .none) else { throw gone(upload, key) }
            throw changed(key, condition)
        }
        let tag = S3AnswerDocument(response.body)?.fields["ETag"]
        guard let found = try await objectHead(key) else { throw changed(key, condition) }
        let made = version(found)
        if let tag, !tag.isEmpty, traits.behaviour?.completionTellsTag == true,
            ObjectMetadata.version(tag: tag, modified: FileTime(seconds: 0), size: 0) != made
        {
            if !isEnforced { throw changed(key, condition) }
            // Another writer came after; this was a commit all the same, and its attributes end there.
            return ObjectAttributes(
                kind: .file, size: size,
                version: ObjectMetadata.version(tag: tag, modified: FileTime(seconds: 0), size: size),
                modified: response.headers["date"].flatMap { CivilTime(httpDate: $0) }?.fileTime
                    ?? FileTime(seconds: 0))
        }
        guard found["content-length"] == String(size) else {
            throw StoreError(
                .checksumMismatch,
                "\(key.description.printable) was completed with \(found["content-length"] ?? "no") bytes, not \(size)")
        }
        return try attributes(key, found)
    }

    /// CompleteMultipartUpload.
    private func sendCompletion(
        _ upload: UploadID, key: ByteString, parts: [UploadedPart], size: UInt64, if condition: WriteCondition
    ) async throws(StoreError) -> (response: HTTPResponse, attempts: Int) {
        let body = completionBody(parts)
        let headers =
            objectHeaders + headers(of: condition)
            + [(name: "Content-Type", value: "application/xml"), (name: "x-amz-mp-object-size", value: String(size))]
        let attempts = Lock(0)
        let response = try await client.perform {
            attempts.withLock { $0 += 1 }
            var call = S3Call(
                "s3:PutObject", .post, key: key, query: [("uploadId", upload.text)], headers: headers, body: body,
                verb: .change)
            call.mayFailLate = true
            call.patience = 20
            return call
        }
        return (response, attempts.withLock { $0 })
    }

    func completionBody(_ parts: [UploadedPart]) -> [UInt8] {
        var text = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        for part in parts.sorted(by: { $0.number < $1.number }) {
            let tag = XMLText.escaped(ByteString(part.tag)) ?? ""
            text += "<Part><PartNumber>\(part.number)</PartNumber><ETag>\(tag)</ETag>"
            if let checksum = part.checksum {
                text += "<ChecksumCRC32C>\(UploadDigest.text(ofCRC32C: checksum))</ChecksumCRC32C>"
            }
            text += "</Part>"
        }
        return Array((text + "</CompleteMultipartUpload>").utf8)
    }

    package func abortUpload(_ upload: UploadID, of path: ByteString) async throws(StoreError) {
        try await abortUpload(upload, key: rawKey(path))
    }

    func abortUpload(_ upload: UploadID, key: ByteString) async throws(StoreError) {
        let headers = payerHeaders
        _ = try await client.perform {
            S3Call(
                "s3:AbortMultipartUpload", .delete, key: key, query: [("uploadId", upload.text)], headers: headers,
                verb: .change)
        }
    }
}
