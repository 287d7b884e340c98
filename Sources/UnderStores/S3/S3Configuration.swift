/// Where a bucket is and how to talk to it. Part of a mount's configuration; credentials are not in it, except for the
/// key of SSE-C, which printing never shows.
package struct S3Configuration: Hashable, Sendable {
    package enum PathStyle: String, Hashable, Sendable, CaseIterable, Codable {
        /// `endpoint/bucket/key` for custom endpoints and for buckets whose name is no DNS label, else
        /// `bucket.endpoint/key`.
        case auto
        case on
        case off
    }

    package var bucket: String
    /// Empty, or key parts that end with a slash; the store's root is this directory.
    package var prefix: String
    /// `https://host:port`, without a path; nil for AWS.
    package var endpoint: String?
    /// nil to find it out from the store's answers; then `us-east-1` is tried first.
    package var region: String?
    package var pathStyle = PathStyle.auto
    /// Requests are not signed, whatever credentials there are.
    package var anonymous = false
    /// The caller agrees to pay for requests and traffic (`x-amz-request-payer`).
    package var requesterPays = false
    /// Base64 of the 32-byte key that the objects were encrypted with (SSE-C).
    package var sseCustomerKey: SSECustomerKey?
    /// `AES256`, `aws:kms` or `aws:kms:dsse`; nil for the bucket's default. For what is written.
    package var serverSideEncryption: String?
    /// Id, ARN or alias of the key for `aws:kms`; nil for AWS's own.
    package var kmsKeyID: String?
    /// `STANDARD_IA`, `INTELLIGENT_TIERING`, …; nil for the store's default, and for the source's in a copy.
    package var storageClass: String?
    /// Object tags of what is written, not of copies, which keep their source's.
    package var tags: [String: String] = [:]
    /// Canned ACL, e.g. `bucket-owner-full-control`; nil for the bucket's default.
    package var acl: String?
    /// What the store takes.
    package var limits = ObjectLimits()
    /// PEM file of the authorities to trust instead of the system's.
    package var caFile: String?
    /// False accepts any certificate. Never in production.
    package var verifyTLS = true
    package var proxy: String?
    package var maxConnections = 32
    package var timeouts = HTTPTimeouts()
    package var retry = RetryPolicy()

    /// Throws `.invalid` when the name of the bucket or the prefix cannot be used.
    package init(bucket: String, prefix: String = "") throws(StoreError) {
        let forbidden = bucket.utf8.contains {
            $0 <= 32 || $0 >= 127 || "/?#\\:@%&".utf8.contains($0)
        }
        guard (1...255).contains(bucket.utf8.count), !forbidden, bucket != ".", bucket != ".." else {
            throw StoreError(.invalid, "\"\(bucket)\" is no name of an S3 bucket")
        }
        self.bucket = bucket
        let parts = prefix.split(separator: "/")
        guard parts.allSatisfy({ $0 != "." && $0 != ".." && !$0.utf8.contains(0) }) else {
            throw StoreError(.invalid, "the prefix \"\(prefix)\" has a part that no file can be named")
        }
        self.prefix = parts.map { $0 + "/" }.joined()
    }

    /// Reads `s3://bucket/prefix`; the prefix is taken as it is, without decoding `%`. Throws `.invalid`.
    package init(url: String) throws(StoreError) {
        guard url.hasPrefix("s3://") else { throw StoreError(.invalid, "\"\(url)\" is no s3://bucket/prefix URL") }
        let rest = url.dropFirst(5)
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        try self.init(bucket: String(rest[..<slash]), prefix: String(rest[slash...]))
    }

    /// What a transport for this store needs to know.
    package var transportOptions: CurlTransport.Options {
        var options = CurlTransport.Options()
        options.connectionsPerHost = max(1, maxConnections)
        options.proxy = proxy
        options.caFile = caFile
        options.verifiesTLS = verifyTLS
        return options
    }
}

/// A key that the caller keeps and S3 needs for each request (SSE-C). Printing never shows it.
package struct SSECustomerKey: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// Base64 of the key.
    let base64: String
    /// Base64 of the MD5 of the key.
    let md5: String

    package var description: String { "SSE-C key" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: []) }
}
