import Platform

extension S3Store: ObjectWriting {
    package var objectWriting: (any ObjectWriting)? { self }
    package var limits: ObjectLimits { configuration.limits }
    package var conditions: EnforcedConditions { traits.behaviour?.conditions ?? EnforcedConditions() }

    package var wantsMD5: Bool { traits.behaviour.map { !$0.checksCRC32C } ?? false }
    package var requirements: [StoreRequirement] {
        guard let behaviour = traits.behaviour else { return [] }
        var found = behaviour.requirements
        if let keepsMarkers = traits.keepsMarkers {
            found.append(
                StoreRequirement(
                    "empty objects `name/` stay", keepsMarkers, otherwise: "a directory goes with its last entry"))
        }
        return found
    }

    // MARK: Names

    /// The key to write for a path. Throws `.nameTooLong`, `.invalid`.
    func writableKey(_ path: ByteString) throws(StoreError) -> ByteString {
        guard !path.isEmpty else { throw StoreError(.invalid, "the root of \(identity) is no object") }
        let parts = path.bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.allSatisfy({ $0.count <= 255 }) else {
            throw StoreError(.nameTooLong, "a name in \(name(path)) is longer than 255 bytes")
        }
        let key = try rawKey(path)
        guard parts.allSatisfy({ ByteString($0).isNameable }) else {
            throw StoreError(.invalid, "\(name(path)) cannot be named by a path")
        }
        return key
    }

    /// The key of a name that a listing of keys gave, or may give.
    func rawKey(_ name: ByteString) throws(StoreError) -> ByteString {
        let key = key(name)
        guard !name.isEmpty, String(validating: key.bytes, as: UTF8.self) != nil else {
            throw StoreError(.invalid, "\(self.name(name)) is no key: S3 wants UTF-8")
        }
        guard key.count <= limits.longestKey else {
            throw StoreError(
                .nameTooLong,
                "the key of \(self.name(name)) has \(key.count) bytes, more than the \(limits.longestKey) of S3")
        }
        return key
    }

    // MARK: Headers

    /// What every object that is made gets from the configuration (PutObject, CreateMultipartUpload, CopyObject).
    func creationHeaders(isCopy: Bool = false) -> [(name: String, value: String)] {
        var headers = payerHeaders + (configuration.sseCustomerKey?.headers ?? [])
        if let encryption = configuration.serverSideEncryption {
            headers.append(("x-amz-server-side-encryption", encryption))
        }
        if let key = configuration.kmsKeyID {
            headers.append(("x-amz-server-side-encryption-aws-kms-key-id", key))
        }
        if let storageClass = configuration.storageClass { headers.append(("x-amz-storage-class", storageClass)) }
        if let acl = configuration.acl { headers.append(("x-amz-acl", acl)) }
        if !isCopy, !configuration.tags.isEmpty {
            headers.append(
                (
                    "x-amz-tagging",
                    SigV4Signer.canonicalQuery(configuration.tags.map { (name: $0.key, value: $0.value) })
                ))
        }
        return headers
    }

    /// The header that makes a change depend on what is there.
    func headers(of condition: WriteCondition) -> [(name: String, value: String)] {
        switch condition {
        case .none: []
        case .absent: [("If-None-Match", "*")]
        case .version(let version):
            traits.behaviour?.acceptsVersion == false ? [] : [ObjectMetadata.condition(version)]
        }
    }

    func changed(_ key: ByteString, _ condition: WriteCondition) -> StoreError {
        let what = "s3://\(configuration.bucket)/\(key.description.printable)"
        return switch condition {
        case .absent: StoreError(.versionChanged, "\(what) has been created meanwhile")
        case .version(let version):
            StoreError(
                .versionChanged, "\(what) has changed: it no longer has version \(version.description.printable)")
        case .none: StoreError(.versionChanged, "\(what) has changed")
        }
    }

    // MARK: What is there

    /// HEAD; nil when there is no such key.
    func objectHead(
        _ key: ByteString, _ more: [(name: String, value: String)] = []
    ) async throws(StoreError) -> HTTPHeaders? {
        let headers = objectHeaders + more
        let response = try await client.perform {
            S3Call("s3:GetObject", .head, key: key, headers: headers, verb: .head)
        }
        return response.isSuccess ? response.headers : nil
    }

    /// The attributes of an object by its headers.
    func attributes(_ key: ByteString, _ headers: HTTPHeaders) throws(StoreError) -> ObjectAttributes {
        guard let attributes = ObjectMetadata.attributes(of: headers) else {
            throw StoreError(
                .protocolViolation, "the answer to HEAD \(key.description.printable) has no Content-Length")
        }
        return attributes
    }

    /// The version that names an object's bytes, also of one that stands for a directory.
    func version(_ headers: HTTPHeaders) -> ObjectVersion {
        ObjectMetadata.version(
            tag: headers["etag"],
            modified: headers["last-modified"].flatMap { CivilTime(httpDate: $0) }?.fileTime ?? FileTime(seconds: 0),
            size: headers["content-length"].flatMap { UInt64($0) } ?? 0)
    }

    /// Looks whether `condition` holds now. Throws `.versionChanged`.
    func check(_ condition: WriteCondition, on key: ByteString) async throws(StoreError) {
        guard condition != .none else { return }
        guard condition.holds(of: try await objectHead(key).map { version($0) }) else { throw changed(key, condition) }
    }

    package func metadata(
        of path: ByteString
    ) async throws(StoreError) -> (metadata: WrittenMetadata, attributes: ObjectAttributes)? {
        let key = try rawKey(path)
        guard let headers = try await objectHead(key) else { return nil }
        var attributes = try attributes(key, headers)
        if key.bytes.last == UInt8(ascii: "/") { attributes.kind = .directory }
        return (MetadataHeaders.metadata(of: headers), attributes)
    }
}
