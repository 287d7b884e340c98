import Platform

extension S3Store {
    package func keys(under path: ByteString) -> any KeyListing {
        S3KeyListing(store: self, prefix: path.isEmpty ? prefix : key(path) + "/")
    }

    package func uploads(under directory: ByteString) async throws(StoreError) -> [PendingUpload] {
        try await uploads(prefix: directory.isEmpty ? self.prefix : key(directory) + "/")
    }

    package func uploads(of path: ByteString) async throws(StoreError) -> [PendingUpload] {
        try await uploads(ofKey: writableKey(path))
    }

    func uploads(ofKey key: ByteString) async throws(StoreError) -> [PendingUpload] {
        try await uploads(prefix: key).filter { self.prefix + $0.path == key }
    }

    private func uploads(prefix: ByteString) async throws(StoreError) -> [PendingUpload] {
        var (uploads, marker): ([PendingUpload], UploadPage.Marker?) = ([], nil)
        while true {
            let page = try await uploadPage(prefix: prefix, after: marker)
            for upload in page.uploads where upload.path.hasPrefix(prefix) {
                let path = ByteString(upload.path.bytes.dropFirst(self.prefix.count))
                uploads.append(PendingUpload(path: path, upload: upload.upload, started: upload.started))
            }
            guard page.isTruncated else { break }
            guard let next = page.next, next != marker, !page.uploads.isEmpty else {
                throw StoreError(
                    .protocolViolation, "\(identity) lists uploads without coming to an end; they cannot be used")
            }
            marker = next
        }
        return uploads.sorted { $0.started < $1.started }
    }

    /// One ListMultipartUploads.
    private func uploadPage(
        prefix: ByteString, after marker: UploadPage.Marker?
    ) async throws(StoreError) -> UploadPage {
        var query = [(name: "uploads", value: ""), (name: "encoding-type", value: "url")]
        if !prefix.isEmpty { query.append(("prefix", prefix.description)) }
        if let marker {
            query.append(("key-marker", marker.key.description))
            query.append(("upload-id-marker", marker.upload))
        }
        let (sent, headers) = (query, payerHeaders)
        let response = try await client.perform {
            var call = S3Call("s3:ListBucketMultipartUploads", .get, query: sent, headers: headers, verb: .list)
            call.answerLimit = 16 << 20
            return call
        }
        return try UploadPage(response.body)
    }
}

/// Every key under a prefix, page by page.
///
/// Used by one task at a time, as the protocol demands, so its state needs no lock.
private final class S3KeyListing: KeyListing, @unchecked Sendable {
    private let store: S3Store
    private let prefix: ByteString
    private var token: String?
    /// The first key of the page before: a store that begins with it again goes round in circles.
    private var first: ByteString?
    private var emptyPages = 0
    private var isFinished = false

    init(store: S3Store, prefix: ByteString) {
        self.store = store
        self.prefix = prefix
    }

    func nextPage() async throws(StoreError) -> [(key: ByteString, size: UInt64, version: ObjectVersion?)]? {
        guard !isFinished else { return nil }
        do throws(StoreError) { return try await advance() } catch {
            isFinished = error.kind != .cancelled
            throw error
        }
    }

    private func advance() async throws(StoreError) -> [(key: ByteString, size: UInt64, version: ObjectVersion?)] {
        let page = try await store.page(prefix: prefix, token: token, limit: 1000, isDeep: true)
        if page.isTruncated {
            emptyPages = page.objects.isEmpty ? emptyPages + 1 : 0
            guard let next = page.nextToken, !next.isEmpty, next != token, emptyPages < 1000 else {
                throw violation("a truncated page has no new continuation token")
            }
            token = next
        } else {
            isFinished = true
        }
        if let start = page.objects.first?.key {
            guard start != first else { throw violation("a page repeats the one before") }
            first = start
        }
        var keys: [(key: ByteString, size: UInt64, version: ObjectVersion?)] = []
        for object in page.objects {
            guard object.key.hasPrefix(prefix) else { throw violation("it shows a key of another prefix") }
            keys.append(
                (
                    ByteString(object.key.bytes.dropFirst(store.prefix.count)), object.size,
                    ObjectMetadata.version(tag: object.entityTag, modified: object.modified, size: object.size)
                ))
        }
        return keys
    }

    private func violation(_ what: String) -> StoreError {
        StoreError(
            .protocolViolation, "listing the keys of \(store.identity): \(what); this store's listings cannot be used")
    }
}

/// One answer of ListMultipartUploads.
struct UploadPage {
    struct Marker: Hashable {
        var key: ByteString
        var upload: String
    }

    /// With whole keys.
    var uploads: [PendingUpload] = []
    var isTruncated = false
    var next: Marker?

    init(_ body: [UInt8]) throws(StoreError) {
        let reader = try XMLReader(Handler(), sizeLimit: 16 << 20)
        do { try body.withUnsafeBytes { try reader.feed($0) } } catch {
            throw error as? StoreError ?? StoreError(.protocolViolation, "a listing of uploads cannot be read")
        }
        try reader.finish()
        self = try reader.handler.page()
    }

    private init() {}

    private struct Handler: XMLElementHandler {
        private var fields: [String: [UInt8]] = [:]
        private var upload: [String: [UInt8]] = [:]
        private var uploads: [[String: [UInt8]]] = []

        mutating func begin(_ name: String, depth: Int) throws(StoreError) {
            if depth == 1, name != "ListMultipartUploadsResult" {
                throw StoreError(.protocolViolation, "the store answered with <\(name.printable)>")
            }
            if depth == 2, name == "Upload" { upload = [:] }
        }

        mutating func end(_ name: String, depth: Int, text: [UInt8]) throws(StoreError) {
            switch (depth, name) {
            case (2, "Upload"): uploads.append(upload)
            case (2, _): fields[name] = text
            case (3, "Key"), (3, "UploadId"), (3, "Initiated"): upload[name] = text
            default: break
            }
            guard uploads.count <= 10_000 else {
                throw StoreError(.protocolViolation, "the store lists more than 10000 uploads in one page")
            }
        }

        func page() throws(StoreError) -> UploadPage {
            var page = UploadPage()
            page.isTruncated = fields["IsTruncated"]?.elementsEqual("true".utf8) == true
            if let key = fields["NextKeyMarker"] {
                let upload = String(decoding: fields["NextUploadIdMarker"] ?? [], as: UTF8.self)
                page.next = Marker(key: try decoded(key), upload: upload)
            }
            for fields in uploads {
                guard let key = fields["Key"], let id = fields["UploadId"] else { continue }
                let started = fields["Initiated"].flatMap {
                    CivilTime(iso8601: String(decoding: $0, as: UTF8.self))?.fileTime
                }
                page.uploads.append(
                    PendingUpload(
                        path: try decoded(key), upload: UploadID(String(decoding: id, as: UTF8.self)),
                        started: started ?? FileTime(seconds: 0)))
            }
            return page
        }

        private func decoded(_ key: [UInt8]) throws(StoreError) -> ByteString {
            guard fields["EncodingType"]?.elementsEqual("url".utf8) == true else { return ByteString(key) }
            guard let bytes = PercentEncoding.decodeForm(key) else {
                throw StoreError(.protocolViolation, "the store lists a key whose URL encoding is broken")
            }
            return ByteString(bytes)
        }
    }
}
