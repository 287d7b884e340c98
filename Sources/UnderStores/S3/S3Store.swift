import Logging
import Platform

/// The objects under a prefix of an S3 bucket as a directory tree ("Organizing objects in the Amazon S3 console by
/// using folders"): a slash in a key separates directories, and a directory exists while some key lies under it.
package final class S3Store: UnderStore {
    /// "Creating object key names", Amazon S3 User Guide.
    private static let longestKey = 1024
    private static let longestLink: UInt64 = 4095  // PATH_MAX without its NUL

    package let identity: StoreIdentity
    package let configuration: S3Configuration
    let client: S3Client
    let prefix: ByteString
    /// What has been found out of how the store takes changes.
    let traits: S3Traits
    let logger: Logger
    /// S3 knows no times of directories: they are as old as this store.
    let directory: ObjectAttributes

    /// Makes no request. Throws `.invalid` when the endpoint cannot be used.
    package convenience init(
        configuration: S3Configuration, credentials: any AWSCredentialsProvider, transport: any HTTPTransport,
        logger: Logger
    ) throws(StoreError) {
        try self.init(
            configuration: configuration, credentials: credentials, transport: transport, environment: S3Environment(),
            logger: logger)
    }

    package init(
        configuration: S3Configuration, credentials: any AWSCredentialsProvider, transport: any HTTPTransport,
        environment: S3Environment, logger: Logger
    ) throws(StoreError) {
        self.configuration = configuration
        client = try S3Client(
            configuration: configuration, credentials: credentials, transport: transport, environment: environment,
            logger: logger)
        prefix = ByteString(configuration.prefix)
        self.logger = logger
        traits = S3Traits(isAWS: try S3Endpoint(configuration, region: "us-east-1").isAWS)
        directory = ObjectAttributes(kind: .directory, modified: FileTime(seconds: environment.now().seconds))
        // Bucket names are unique within AWS, and the region may be known only later: it is no part of the identity.
        let origin = try configuration.endpoint.map(S3Endpoint.canonicalOrigin) ?? "https://s3.amazonaws.com"
        let base = configuration.prefix.isEmpty ? "" : "/" + configuration.prefix.dropLast()
        identity = StoreIdentity("s3://\(configuration.bucket)\(base)@\(origin)")
    }

    /// What has been asked and answered so far. Any thread.
    package var counters: StoreCounters { client.meter.snapshot }
    /// Where the bucket is, as far as is known by now. Any thread.
    package var region: String { client.region }

    /// Asks the store once, with few repetitions, whether the bucket can be listed: for a clear error at mount time.
    /// Throws `.notFound`, `.accessDenied`, `.unavailable`, `.invalid`.
    package func check() async throws(StoreError) {
        let policy = RetryPolicy(attempts: 3, budget: .seconds(10))
        _ = try await page(prefix: prefix, token: nil, limit: 1, policy: policy)
    }

    // MARK: Names

    func key(_ path: ByteString) -> ByteString { prefix + path }

    /// For messages.
    func name(_ path: ByteString) -> String { "s3://\(configuration.bucket)/\(key(path).description.printable)" }

    /// Whether a key can stand for the path: UTF-8, not too long, and every part something that POSIX can name.
    func canExist(_ path: ByteString) -> Bool {
        guard !path.isEmpty else { return true }
        guard key(path).count <= Self.longestKey, String(validating: path.bytes, as: UTF8.self) != nil else {
            return false
        }
        return path.bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            .allSatisfy { ByteString($0).isNameable }
    }

    // MARK: Lookup

    package func lookup(_ path: ByteString) async throws(StoreError) -> ObjectAttributes? {
        guard canExist(path) else { return nil }
        guard !path.isEmpty else {
            _ = try await page(prefix: prefix, token: nil, limit: 1)
            return directory
        }
        // Both at once: one round trip, whatever there is.
        async let below = existsBelow(path)
        async let object = head(key(path))
        let (directoryAnswer, objectAnswer) = await (below, object)
        switch (directoryAnswer, objectAnswer) {
        case (.success(.marker), _): return try await markedDirectory(path)
        case (.success(.keys), _): return directory
        case (.success(.nothing), _): return try objectAnswer.get()
        case (.failure(let error), .success(let attributes?)) where error.kind == .accessDenied:
            // A policy may allow s3:GetObject alone; then nothing shows that there might be a directory.
            return attributes
        case (.failure(let error), _): throw error
        }
    }

    private enum Below { case nothing, keys, marker }

    private func existsBelow(_ path: ByteString) async -> Result<Below, StoreError> {
        do throws(StoreError) {
            let marker = key(path) + "/"
            let answer = try await page(prefix: marker, token: nil, limit: 1)
            // The first of all keys below, where there is one.
            if answer.objects.first?.key == marker { return .success(.marker) }
            return .success(answer.objects.isEmpty && answer.commonPrefixes.isEmpty ? .nothing : .keys)
        } catch { return .failure(error) }
    }

    /// A directory with the owner, mode and time of its marker, which s3fs, rclone and Larder write.
    private func markedDirectory(_ path: ByteString) async throws(StoreError) -> ObjectAttributes {
        let marker: ObjectAttributes?
        do { marker = try await head(key(path) + "/").get() } catch {
            // Who may list and not read still sees that there is a directory.
            guard error.kind == .accessDenied else { throw error }
            return directory
        }
        return marker.map(asDirectory) ?? directory
    }

    private func asDirectory(_ object: ObjectAttributes) -> ObjectAttributes {
        var attributes = directory
        (attributes.permissions, attributes.uid, attributes.gid) = (object.permissions, object.uid, object.gid)
        attributes.modified = object.modified
        return attributes
    }

    private func head(_ key: ByteString) async -> Result<ObjectAttributes?, StoreError> {
        let headers = objectHeaders
        do throws(StoreError) {
            let response = try await client.perform {
                S3Call("s3:GetObject", .head, key: key, headers: headers, verb: .head)
            }
            guard response.isSuccess else { return .success(nil) }
            guard var attributes = ObjectMetadata.attributes(of: response.headers) else {
                let name = "s3://\(configuration.bucket)/\(key.description.printable)"
                throw StoreError(.protocolViolation, "the answer to HEAD \(name) has no Content-Length")
            }
            // An old directory of s3fs, whose object has no slash.
            if attributes.kind == .directory { attributes = asDirectory(attributes) }
            return .success(attributes)
        } catch { return .failure(error) }
    }

    // MARK: Listing

    package func list(_ path: ByteString) -> any DirectoryListing {
        S3Listing(store: self, path: path, prefix: path.isEmpty ? prefix : key(path) + "/")
    }

    /// One ListObjectsV2.
    /// - Parameter isDeep: every key below, instead of the names of one directory.
    func page(
        prefix: ByteString, token: String?, limit: Int, isDeep: Bool = false, policy: RetryPolicy? = nil
    ) async throws(StoreError) -> ListBucketPage {
        var query = [
            (name: "list-type", value: "2"), (name: "encoding-type", value: "url"),
            (name: "max-keys", value: String(limit)),
        ]
        if !isDeep { query.append(("delimiter", "/")) }
        // A prefix is made of the configured text and of a path that was checked to be UTF-8.
        if !prefix.isEmpty { query.append(("prefix", prefix.description)) }
        if let token { query.append(("continuation-token", token)) }
        let (sent, headers) = (query, payerHeaders)
        let body = ListBody(name: "s3://\(configuration.bucket)/\(prefix.description.printable)")
        let response = try await client.perform(body, policy: policy) {
            S3Call("s3:ListBucket", .get, query: sent, headers: headers, verb: .list)
        }
        guard let page = body.page else {
            throw StoreError(.protocolViolation, "\(identity) answered a listing with HTTP \(response.status)")
        }
        return page
    }

    // MARK: Reading

    package func read(
        _ path: ByteString, range: Range<UInt64>, expecting version: ObjectVersion?, into sink: any ReadSink
    ) async throws(StoreError) {
        guard !range.isEmpty else { return }
        guard canExist(path), !path.isEmpty else { throw StoreError(.notFound, "there is no \(name(path))") }
        let key = key(path)
        let headers = objectHeaders
        let body = ObjectBody(name: name(path), range: range, expecting: version, sink: sink)
        let response = try await client.perform(body) {
            S3Call("s3:GetObject", .get, key: key, headers: headers + body.headers, verb: .get)
        }
        switch response.status {
        case 200..<300: return
        case 412:
            throw StoreError(
                .versionChanged, "\(name(path)) has changed: it no longer has version \(version?.description ?? "")")
        case 416 where version != nil:
            throw StoreError(
                .versionChanged, "\(name(path)) has changed: it is shorter than \(range.upperBound) bytes now")
        case 416: throw StoreError(.invalid, "\(name(path)) is shorter than \(range.upperBound) bytes")
        default: throw StoreError(.notFound, "there is no \(name(path))")
        }
    }

    package func readLink(_ path: ByteString) async throws(StoreError) -> ByteString {
        guard let found = try await lookup(path) else { throw StoreError(.notFound, "there is no \(name(path))") }
        guard found.kind == .symbolicLink, (1...Self.longestLink).contains(found.size) else {
            throw StoreError(.invalid, "\(name(path)) is no symbolic link")
        }
        let target = CollectingSink()
        try await read(path, range: 0..<found.size, expecting: found.version, into: target)
        return target.bytes
    }

    var payerHeaders: [(name: String, value: String)] {
        configuration.requesterPays ? [("x-amz-request-payer", "requester")] : []
    }

    /// What every HEAD and GET of an object needs.
    var objectHeaders: [(name: String, value: String)] {
        payerHeaders + (configuration.sseCustomerKey?.headers ?? [])
    }
}

/// Keeps the bytes of a small read.
private final class CollectingSink: ReadSink {
    private let collected = Lock<[UInt8]>([])
    var bytes: ByteString { ByteString(collected.withLock { $0 }) }
    func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) { collected.withLock { $0 += bytes } }
}
