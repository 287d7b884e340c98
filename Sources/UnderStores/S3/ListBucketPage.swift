import Platform

/// One answer of ListObjectsV2 (Amazon S3 API Reference).
package struct ListBucketPage: Sendable {
    package struct Object: Hashable, Sendable {
        package var key: ByteString
        package var size: UInt64
        /// As the store wrote it, not yet normalized.
        package var entityTag: String?
        package var modified: FileTime
    }

    package var objects: [Object] = []
    /// Each ends with the delimiter.
    package var commonPrefixes: [ByteString] = []
    package var isTruncated = false
    package var nextToken: String?
}

/// Collects a `ListBucketResult` document.
struct ListBucketHandler: XMLElementHandler {
    /// `max-keys` asks for 1000; a store that sends many more is not to be trusted with our memory.
    private static let mostItems = 10_000

    private(set) var page = ListBucketPage()
    private var isURLEncoded = false
    private var raw: (key: [UInt8]?, size: [UInt8]?, tag: [UInt8]?, modified: [UInt8]?) = (nil, nil, nil, nil)
    private var rawPrefix: [UInt8]?
    private var path: [String] = []
    private var rawObjects: [(key: [UInt8], object: ListBucketPage.Object)] = []
    private var rawPrefixes: [[UInt8]] = []

    mutating func begin(_ name: String, depth: Int) throws(StoreError) {
        if depth == 1, name != "ListBucketResult" {
            throw StoreError(.protocolViolation, "the store answered a listing with <\(name.printable)>")
        }
        path.append(name)
        if depth == 2, name == "Contents" { raw = (nil, nil, nil, nil) }
        if depth == 2, name == "CommonPrefixes" { rawPrefix = nil }
    }

    mutating func end(_ name: String, depth: Int, text: [UInt8]) throws(StoreError) {
        _ = path.popLast()
        switch (depth, name) {
        case (1, _): try decodeKeys()
        case (2, "Contents"): try endObject()
        case (2, "CommonPrefixes"):
            if let rawPrefix { rawPrefixes.append(rawPrefix) }
        case (2, "IsTruncated"): page.isTruncated = text.elementsEqual("true".utf8)
        case (2, "NextContinuationToken"): page.nextToken = String(decoding: text, as: UTF8.self)
        case (2, "EncodingType"): isURLEncoded = text.elementsEqual("url".utf8)
        case (3, "Key") where path.last == "Contents": raw.key = text
        case (3, "Size") where path.last == "Contents": raw.size = text
        case (3, "ETag") where path.last == "Contents": raw.tag = text
        case (3, "LastModified") where path.last == "Contents": raw.modified = text
        case (3, "Prefix") where path.last == "CommonPrefixes": rawPrefix = text
        default: break
        }
        if rawObjects.count + rawPrefixes.count > Self.mostItems {
            throw StoreError(.protocolViolation, "the store lists more than \(Self.mostItems) keys in one page")
        }
    }

    private mutating func endObject() throws(StoreError) {
        guard let key = raw.key, let size = raw.size.flatMap({ UInt64(String(decoding: $0, as: UTF8.self)) }) else {
            throw StoreError(.protocolViolation, "the store lists an object without key or size")
        }
        let modified = raw.modified.flatMap { CivilTime(iso8601: String(decoding: $0, as: UTF8.self)) }?.fileTime
        rawObjects.append(
            (
                key,
                ListBucketPage.Object(
                    key: "", size: size, entityTag: raw.tag.map { String(decoding: $0, as: UTF8.self) },
                    modified: modified ?? FileTime(seconds: 0))
            ))
    }

    /// Only at the end, because `EncodingType` may come after the keys.
    private mutating func decodeKeys() throws(StoreError) {
        page.objects.reserveCapacity(rawObjects.count)
        for (key, object) in rawObjects {
            var object = object
            object.key = try decoded(key)
            page.objects.append(object)
        }
        page.commonPrefixes.reserveCapacity(rawPrefixes.count)
        for prefix in rawPrefixes { page.commonPrefixes.append(try decoded(prefix)) }
        rawObjects = []
        rawPrefixes = []
    }

    private func decoded(_ key: [UInt8]) throws(StoreError) -> ByteString {
        guard isURLEncoded else { return ByteString(key) }
        guard let bytes = PercentEncoding.decodeForm(key) else {
            throw StoreError(.protocolViolation, "the store lists a key whose URL encoding is broken")
        }
        return ByteString(bytes)
    }
}
