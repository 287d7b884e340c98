import Crypto
import Platform

/// AWS Signature Version 4 in the `Authorization` header ("Authenticating Requests: Using the Authorization Header",
/// Amazon S3 API Reference; "Create a signed AWS API request", IAM User Guide). Pure: same input, same signature.
package struct SigV4Signer: Sendable {
    /// How the path of the URL enters the signature.
    package enum PathRule: Sendable {
        /// S3: as it stands in the URL, encoded once.
        case verbatim
        /// Every other service: `.` and `..` resolved, repeated slashes joined, encoded once more.
        case normalized
    }

    /// What is signed of a request.
    package struct Input: Sendable {
        package var method: String
        /// Percent-encoded path, beginning with a slash.
        package var path: String
        /// Decoded names and values, in any order.
        package var query: [(name: String, value: String)]
        /// Every header to sign, with `host`, and `x-amz-date` where it is sent.
        package var headers: [(name: String, value: String)]
        /// Hexadecimal SHA-256 of the body, or `UNSIGNED-PAYLOAD`.
        package var payloadHash: String

        package init(
            method: String, path: String, query: [(name: String, value: String)] = [],
            headers: [(name: String, value: String)], payloadHash: String
        ) {
            self.method = method
            self.path = path
            self.query = query
            self.headers = headers
            self.payloadHash = payloadHash
        }
    }

    /// The SHA-256 of no bytes.
    package static let emptyPayloadHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    package static let unsignedPayload = "UNSIGNED-PAYLOAD"

    package static func hash(ofPayload body: [UInt8]) -> String { hexadecimal(SHA256.hash(data: body)) }

    package let credentials: AWSCredentials
    package let region: String
    package let service: String
    package let time: CivilTime
    package let pathRule: PathRule

    package init(
        credentials: AWSCredentials, region: String, service: String, time: CivilTime, pathRule: PathRule = .verbatim
    ) {
        self.credentials = credentials
        self.region = region
        self.service = service
        self.time = time
        self.pathRule = pathRule
    }

    /// The value of the `Authorization` header.
    package func authorization(_ input: Input) -> String {
        let signature = hexadecimal(Self.code(Array(stringToSign(input).utf8), key: signingKey()))
        return "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), "
            + "SignedHeaders=\(canonicalHeaders(input).names), Signature=\(signature)"
    }

    package var scope: String { "\(time.basicDate)/\(region)/\(service)/aws4_request" }

    package func canonicalRequest(_ input: Input) -> String {
        let headers = canonicalHeaders(input)
        return [
            input.method, canonicalPath(input.path), Self.canonicalQuery(input.query), headers.block, headers.names,
            input.payloadHash,
        ].joined(separator: "\n")
    }

    package func stringToSign(_ input: Input) -> String {
        let digest = hexadecimal(SHA256.hash(data: Array(canonicalRequest(input).utf8)))
        return "AWS4-HMAC-SHA256\n\(time.basicDateTime)\n\(scope)\n\(digest)"
    }

    /// The query as it is both signed and sent: encoded, sorted by encoded name and then value.
    package static func canonicalQuery(_ query: [(name: String, value: String)]) -> String {
        query.map {
            (
                PercentEncoding.encode($0.name.utf8, keepsSlashes: false),
                PercentEncoding.encode($0.value.utf8, keepsSlashes: false)
            )
        }
        .sorted { ($0.0, $0.1) < ($1.0, $1.1) }  // ASCII only, so the order of String is the order of bytes
        .map { "\($0.0)=\($0.1)" }
        .joined(separator: "&")
    }

    private func signingKey() -> [UInt8] {
        var key = Array("AWS4\(credentials.secretAccessKey)".utf8)
        for part in [time.basicDate, region, service, "aws4_request"] {
            key = Array(Self.code(Array(part.utf8), key: key))
        }
        return key
    }

    private static func code(_ message: [UInt8], key: [UInt8]) -> HMAC<SHA256>.MAC {
        HMAC<SHA256>.authenticationCode(for: message, using: SymmetricKey(data: key))
    }

    private func canonicalHeaders(_ input: Input) -> (block: String, names: String) {
        var values: [String: [String]] = [:]
        for header in input.headers { values[header.name.lowercased(), default: []].append(Self.folded(header.value)) }
        let names = values.keys.sorted()
        let block = names.map { "\($0):\(values[$0, default: []].joined(separator: ","))\n" }.joined()
        return (block, names.joined(separator: ";"))
    }

    /// Without blanks at the ends, runs of blanks as one space.
    private static func folded(_ value: String) -> String {
        value.split { $0 == " " || $0 == "\t" || $0 == "\n" || $0 == "\r\n" }.joined(separator: " ")
    }

    private func canonicalPath(_ path: String) -> String {
        guard case .normalized = pathRule else { return path }
        var kept: [Substring] = []
        for part in path.split(separator: "/") {
            switch part {
            case ".": break
            case "..": _ = kept.popLast()
            default: kept.append(part)
            }
        }
        let slash = !kept.isEmpty && path.utf8.last == UInt8(ascii: "/") ? "/" : ""
        return PercentEncoding.encode(("/" + kept.joined(separator: "/") + slash).utf8, keepsSlashes: true)
    }
}

/// Lower-case hexadecimal digits of a digest.
package func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var result: [UInt8] = []
    for byte in bytes { result += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
    return String(decoding: result, as: UTF8.self)
}
