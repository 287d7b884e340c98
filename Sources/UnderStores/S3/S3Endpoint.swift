import Platform

/// Makes the URLs of a bucket's requests ("Methods for accessing a general purpose bucket", Amazon S3 User Guide).
/// Pure.
package struct S3Endpoint: Hashable, Sendable {
    /// `http` or `https`.
    package let scheme: String
    /// Host and port as in the `Host` header; a default port is left out.
    package let authority: String
    /// Where keys begin: `/` or `/bucket/`, percent-encoded.
    package let basePath: String
    /// True when `authority` is one of AWS's own.
    package let isAWS: Bool

    /// Throws `.invalid` when the endpoint is no `http(s)://host[:port]`.
    package init(_ configuration: S3Configuration, region: String) throws(StoreError) {
        let bucket = configuration.bucket
        var authority: String
        if let text = configuration.endpoint {
            (scheme, authority) = try Self.parse(text)
            isAWS = authority.hasSuffix(".amazonaws.com") || authority.hasSuffix(".amazonaws.com.cn")
        } else {
            let suffix = region.hasPrefix("cn-") ? "amazonaws.com.cn" : "amazonaws.com"
            (scheme, authority, isAWS) = ("https", "s3.\(region).\(suffix)", true)
        }
        let usesPath =
            switch configuration.pathStyle {
            case .on: true
            case .off: false
            case .auto: configuration.endpoint != nil || !Self.isLabel(bucket)
            }
        if !usesPath { authority = "\(bucket).\(authority)" }
        self.authority = authority
        basePath = usesPath ? "/\(PercentEncoding.encode(bucket.utf8, keepsSlashes: false))/" : "/"
    }

    /// Percent-encoded path of a key; the bucket's own path for nil.
    package func path(key: ByteString?) -> String {
        guard let key else { return basePath }
        return basePath + PercentEncoding.encode(key.bytes, keepsSlashes: true)
    }

    package var origin: String { "\(scheme)://\(authority)" }

    /// `https://host:port` in canonical form: lower case, without default port. Throws `.invalid`.
    package static func canonicalOrigin(_ text: String) throws(StoreError) -> String {
        let (scheme, authority) = try parse(text)
        return "\(scheme)://\(authority)"
    }

    private static func parse(_ text: String) throws(StoreError) -> (scheme: String, authority: String) {
        let lower = text.lowercased()
        let invalid = StoreError(.invalid, "the endpoint \"\(text)\" is no http(s)://host:port")
        guard let scheme = ["http", "https"].first(where: { lower.hasPrefix("\($0)://") }) else { throw invalid }
        var rest = lower.dropFirst(scheme.utf8.count + 3)
        while rest.last == "/" { rest.removeLast() }
        let isAcceptable = rest.utf8.allSatisfy {
            (48...57).contains($0) || (97...122).contains($0) || "-._:[]".utf8.contains($0)
        }
        guard !rest.isEmpty, isAcceptable else { throw invalid }
        let defaultPort = scheme == "http" ? ":80" : ":443"
        if rest.hasSuffix(defaultPort) { rest.removeLast(defaultPort.utf8.count) }
        return (scheme, String(rest))
    }

    /// Whether a bucket's name can stand before the endpoint's: a wildcard certificate covers one label only.
    private static func isLabel(_ bucket: String) -> Bool {
        (3...63).contains(bucket.utf8.count) && bucket.utf8.first != UInt8(ascii: "-")
            && bucket.utf8.last != UInt8(ascii: "-")
            && bucket.utf8.allSatisfy { (48...57).contains($0) || (97...122).contains($0) || $0 == UInt8(ascii: "-") }
    }
}
