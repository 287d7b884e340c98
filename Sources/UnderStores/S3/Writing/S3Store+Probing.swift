import Crypto
import Glibc
import Platform

extension S3Store {
    package func probeConditions(in directory: ByteString) async throws(StoreError) -> EnforcedConditions {
        let base = directory.isEmpty ? prefix : key(directory) + "/"
        return try await traits.settle { () throws(StoreError) in try await S3Probe(self, below: base).run() }
            .conditions
    }

    /// What the store does, asked with objects at its root, or beside `key` where only that may be written, when nobody
    /// has asked before.
    func behaviour(near key: ByteString) async throws(StoreError) -> S3Behaviour {
        if let known = traits.behaviour { return known }
        let end = key.bytes.dropLast().lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0
        let beside = ByteString(key.bytes[..<end])
        return try await traits.settle { () throws(StoreError) in
            for base in [self.prefix, beside] {
                do throws(StoreError) { return try await S3Probe(self, below: base).run() } catch {
                    guard error.kind == .accessDenied else { throw error }
                    self.logger.info("what \(self.identity) enforces cannot be asked below \"\(base)\": \(error)")
                }
            }
            // Who may write only certain keys is served all the same, with looks before and after.
            self.logger.warning("what \(self.identity) enforces cannot be found out: the probe is not allowed")
            var cautious = S3Behaviour()
            cautious.conditions.isKnown = true
            return cautious
        }
    }
}

/// Finds out what a store does with conditions, checksums and copies that it accepts, by asking for what it must refuse
/// (some accept every header and ignore it). All its objects are gone afterwards; what a kill leaves is not shown by
/// listings, and removed by this node's next probe.
struct S3Probe: Sendable {
    /// What the names of its objects begin with.
    static let mark = ByteString(".larder-probe-")

    private let store: S3Store
    private let key: ByteString
    private let copyKey: ByteString
    private let content = Array("larder".utf8)
    /// A version that no object has.
    private let never = ObjectVersion("\"00000000000000000000000000000000\"")

    init(_ store: S3Store, below base: ByteString) {
        self.store = store
        let name = Self.mark + Self.node
        key = base + name
        copyKey = base + name + "-copy"
    }

    /// The same each time for this user of this node, so that what a killed probe has left is found.
    private static let node: ByteString = {
        var name = utsname()
        uname(&name)
        let host = withUnsafeBytes(of: &name.nodename) { Array($0.prefix { $0 != 0 }) }
        let digest = SHA256.hash(data: host + Array("/\(geteuid())".utf8))
        return ByteString(digest.prefix(8).map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined())
    }()

    func run() async throws(StoreError) -> S3Behaviour {
        try await cleanUpload(key)
        try await cleanUpload(copyKey)
        do throws(StoreError) {
            let behaviour = try await ask()
            try await cleanUp()
            return behaviour
        } catch {
            try? await cleanUp()
            throw error
        }
    }

    /// Drops the uploads that a killed probe has left; a store that does not list them has none, or keeps them.
    private func cleanUpload(_ key: ByteString) async throws(StoreError) {
        let left: [PendingUpload]
        do throws(StoreError) { left = try await store.uploads(ofKey: key) } catch {
            if error.kind == .unavailable || error.kind == .cancelled { throw error }
            return
        }
        for upload in left { try? await store.abortUpload(upload.upload, key: key) }
    }

    private func cleanUp() async throws(StoreError) {
        try await store.removeKey(key, [])
        try await store.removeKey(copyKey, [])
    }

    private func ask() async throws(StoreError) -> S3Behaviour {
        var behaviour = S3Behaviour()
        behaviour.conditions.isKnown = true
        let createsInstead = try await put(if: .version(never)) != nil
        guard let tag = try await put(if: .none) else {
            throw StoreError(.protocolViolation, "\(store.identity) refuses an unconditional PUT")
        }
        let digest = try await UploadDigest.of(.bytes(content), withMD5: true)
        behaviour.tagsAreMD5 = UploadDigest.md5(ofTag: tag).map { $0 == digest.md5 } ?? false
        behaviour.checksCRC32C = try await refuses(UploadDigest(crc32c: 0, md5: nil))
        if !behaviour.checksCRC32C {
            let wrong = UploadDigest(crc32c: digest.crc32c, md5: [UInt8](repeating: 0, count: 16))
            behaviour.checksMD5 = try await refuses(wrong)
        }
        behaviour.conditions.putAbsent = try await put(if: .absent) == nil
        let refusesWrong = try await put(if: .version(never)) == nil
        if refusesWrong {
            behaviour.acceptsVersion = try await put(if: .version(version(tag))) != nil
        }
        behaviour.conditions.putVersion = refusesWrong && behaviour.acceptsVersion && !createsInstead
        try await askOfCompletion(&behaviour)
        try await askOfCopies(&behaviour)
        return behaviour
    }

    private func version(_ tag: String) -> ObjectVersion {
        ObjectMetadata.version(tag: tag, modified: FileTime(seconds: 0), size: 0)
    }

    /// The ETag of the new object; nil when the condition was found not to hold.
    private func put(
        if condition: WriteCondition, digest given: UploadDigest? = nil
    ) async throws(StoreError) -> String? {
        let digest: UploadDigest
        if let given {
            digest = given
        } else {
            digest = try await UploadDigest.of(.bytes(content), withMD5: given == nil)
        }
        let headers = store.creationHeaders() + digest.headers + store.headers(of: condition)
        let response = try await store.client.perform {
            S3Call("s3:PutObject", .put, key: key, headers: headers, body: content, verb: .change)
        }
        return response.isSuccess ? response.headers["etag"] ?? "" : nil
    }

    /// Whether the content is refused with a digest that is not its own.
    private func refuses(_ wrong: UploadDigest) async throws(StoreError) -> Bool {
        do throws(StoreError) {
            _ = try await put(if: .none, digest: wrong)
            return false
        } catch {
            guard error.kind == .checksumMismatch else { throw error }
            return true
        }
    }

    private func askOfCompletion(_ behaviour: inout S3Behaviour) async throws(StoreError) {
        do throws(StoreError) {
            behaviour.conditions.completeAbsent = try await complete(if: .absent) == nil
            var refusesWrong = try await complete(if: .version(never)) == nil
            try await store.removeKey(key, [])
            if refusesWrong { refusesWrong = try await complete(if: .version(never)) == nil }
            guard let tag = try await put(if: .none) else { return }
            let right = behaviour.acceptsVersion ? WriteCondition.version(version(tag)) : .none
            let answer = try await complete(if: right)
            behaviour.conditions.completeVersion = refusesWrong && answer != nil && right != .none
            guard let answer, let found = try await store.objectHead(key) else { return }
            behaviour.completionTellsTag = !answer.isEmpty && store.version(found) == version(answer)
        } catch {
            // A store without multipart uploads has no conditions on them either.
            guard error.kind == .unsupported || error.kind == .invalid else { throw error }
        }
    }

    /// Makes the object by an upload of one part. Its ETag as the completion tells it; nil when the condition was found
    /// not to hold.
    private func complete(if condition: WriteCondition) async throws(StoreError) -> String? {
        let upload = try await store.beginUpload(key: key, [])
        do throws(StoreError) {
            let part = try await store.uploadPart(upload, key: key, number: 1, .bytes(content))
            let body = store.completionBody([part])
            let headers = store.objectHeaders + store.headers(of: condition)
            let response = try await store.client.perform {
                var call = S3Call(
                    "s3:PutObject", .post, key: key, query: [("uploadId", upload.text)], headers: headers, body: body,
                    verb: .change)
                call.mayFailLate = true
                return call
            }
            guard !response.isSuccess else { return S3AnswerDocument(response.body)?.fields["ETag"] ?? "" }
            try await store.abortUpload(upload, key: key)
            return nil
        } catch {
            try? await store.abortUpload(upload, key: key)
            throw error
        }
    }

    /// A store that does not know the header of a copy takes it for a PUT of nothing.
    private func askOfCopies(_ behaviour: inout S3Behaviour) async throws(StoreError) {
        behaviour.copies = try await copies([])
        guard behaviour.copies else {
            behaviour.copiesParts = false
            return
        }
        let wrong = store.copySource(key, expecting: never).filter { $0.name == "x-amz-copy-source-if-match" }
        behaviour.checksCopySource = try await !copies(wrong)
        behaviour.copiesParts = try await copiesParts()
    }

    private func copies(_ condition: [(name: String, value: String)]) async throws(StoreError) -> Bool {
        let headers = store.creationHeaders(isCopy: true) + store.copySource(key, expecting: nil) + condition
        do throws(StoreError) {
            let response = try await store.client.perform { S3Store.copyCall(copyKey, [], headers) }
            return response.isSuccess && S3AnswerDocument(response.body)?.fields["ETag"]?.isEmpty == false
        } catch {
            guard error.kind == .unsupported || error.kind == .invalid else { throw error }
            return false
        }
    }

    private func copiesParts() async throws(StoreError) -> Bool {
        let upload: UploadID
        do throws(StoreError) { upload = try await store.beginUpload(key: copyKey, []) } catch {
            guard error.kind == .unsupported || error.kind == .invalid else { throw error }
            return false
        }
        var copies = true
        do throws(StoreError) {
            _ = try await store.copyPart(
                upload, key: copyKey, number: 1, from: key, range: 0..<UInt64(content.count), expecting: nil)
        } catch {
            guard error.kind == .unsupported || error.kind == .invalid else {
                try? await store.abortUpload(upload, key: copyKey)
                throw error
            }
            copies = false
        }
        try await store.abortUpload(upload, key: copyKey)
        return copies
    }
}
