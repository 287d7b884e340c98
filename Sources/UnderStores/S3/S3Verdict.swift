import Platform

/// What to do about one answer, or about the lack of one. Pure.
enum S3Verdict: Hashable, Sendable {
    /// The caller's: success, or a status that tells of the object (404, 412, 416).
    case answer
    /// Send it again later, not before `after`.
    case retry(StoreError, after: Duration?)
    /// The answer breaks the protocol: send it again, but few times.
    case suspicious(StoreError)
    /// The bucket is in this region.
    case region(String, StoreError)
    /// The store's clock and ours differ too much.
    case clock(server: FileTime?, StoreError)
    /// The store does not accept these credentials (any more).
    case credentials(StoreError)
    /// An error answer to a HEAD, which has no body to tell why.
    case unexplained
    case fail(StoreError)
}

/// Judges answers, and says what happened in words for the person who runs the mount.
struct S3Judge: Sendable {
    let bucket: String
    /// `https://host:port`
    let origin: String
    /// In which the request was signed.
    let region: String
    /// Of the credentials; nil for an unsigned request.
    let source: String?

    private static let staleCodes: Set<String> = [
        "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "TokenRefreshRequired",
    ]

    private static let busyCodes: Set<String> = [
        "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "ConditionalRequestConflict",
        "OperationAborted",
    ]
    /// Of AWS, MinIO and Ceph.
    private static let fullCodes: Set<String> = [
        "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage",
    ]
    private static let damageCodes: Set<String> = [
        "BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
    ]

    func verdict(on response: HTTPResponse, to call: S3Call) -> S3Verdict {
        if response.isSuccess { return .answer }
        let document = S3ErrorDocument(response.body) ?? S3ErrorDocument()
        let code = document.code
        if code == "RequestTimeTooSkewed" {
            let server = response.headers["date"].flatMap { CivilTime(httpDate: $0) }?.fileTime
            return .clock(
                server: server, error(.accessDenied, call, "was refused: the clocks differ too much", document))
        }
        if Self.staleCodes.contains(code) {
            return .credentials(
                error(.accessDenied, call, "was refused: \(who) are not accepted; renew them", document))
        }
        if let elsewhere = response.headers["x-amz-bucket-region"] ?? document.region, elsewhere != region,
            Self.isRegion(elsewhere),
            [301, 307, 308, 400, 403].contains(response.status), response.status != 403 || code.isEmpty
        {
            return .region(
                elsewhere,
                error(.invalid, call, "went to the wrong region \(region), the bucket is in \(elsewhere)", document))
        }
        if Self.damageCodes.contains(code) {
            return .suspicious(
                error(.checksumMismatch, call, "failed: the store received other bytes than were meant", document))
        }
        if Self.fullCodes.contains(code) || response.status == 507 {
            return .fail(
                error(
                    .quotaExceeded, call, "failed: the store is full; free space or raise the quota", document,
                    response.status))
        }
        switch response.status {
        case 404 where code == "NoSuchBucket" || call.key == nil:
            return .fail(
                StoreError(
                    .notFound,
                    "there is no bucket \"\(bucket)\" at \(origin): check its name, the endpoint and the region"))
        case 404, 412, 416: return .answer
        case 408, 425, 429, 500, 502, 503, 504:
            return .retry(
                error(.unavailable, call, "failed: the store is overloaded or broken", document, response.status),
                after: retryAfter(response))
        case _ where Self.busyCodes.contains(code):
            return .retry(error(.unavailable, call, "failed", document, response.status), after: retryAfter(response))
        case 400, 401, 403:
            if call.method == .head { return .unexplained }
            if code == "EntityTooLarge" {
                return .fail(error(.tooLarge, call, "was refused as too large", document))
            }
            if code == "KeyTooLongError" {
                return .fail(error(.nameTooLong, call, "was refused: its key is too long", document))
            }
            if code == "NotImplemented" {
                return .fail(error(.unsupported, call, "is not implemented by this store", document))
            }
            if response.status == 400, code != "AccessDenied" { break }
            return .fail(refusal(call, document, response.status))
        case 300..<400:
            return .fail(
                error(
                    .invalid, call, "was redirected, which is not followed; check the endpoint and the region",
                    document, response.status))
        case 501: return .fail(error(.unsupported, call, "is not implemented by this store", document, 501))
        case 405 where call.verb == .change:
            return .fail(error(.unsupported, call, "is not allowed by this store", document, 405))
        case 413: return .fail(error(.tooLarge, call, "was refused as too large", document, 413))
        case 414: return .fail(error(.nameTooLong, call, "was refused: its key is too long", document, 414))
        case 500..<600:
            return .retry(error(.unavailable, call, "failed", document, response.status), after: retryAfter(response))
        default: break
        }
        return .fail(error(.invalid, call, "was refused as invalid", document, response.status))
    }

    /// An answer whose body turned out to be an error, as if the store had known it from the start.
    func settled(_ response: HTTPResponse, to call: S3Call) -> HTTPResponse {
        guard call.mayFailLate, response.isSuccess, let late = S3ErrorDocument(response.body) else { return response }
        var response = response
        response.status = Self.status(of: late.code)
        return response
    }

    /// What an error that came late would have had as its status ("Error responses", Amazon S3 API Reference).
    private static func status(of code: String) -> Int {
        switch code {
        case "NoSuchKey", "NoSuchUpload", "NoSuchBucket", "NoSuchVersion": 404
        case "PreconditionFailed": 412
        case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch": 403
        case "NotImplemented": 501
        case _ where busyCodes.contains(code): 503
        case "InvalidPart", "InvalidPartOrder", "InvalidRequest", "EntityTooLarge", "EntityTooSmall",
            "InvalidArgument", "MalformedXML", "InvalidObjectState":
            400
        default: 500
        }
    }

    /// A region becomes a part of a host name: nothing else may come from an answer.
    private static func isRegion(_ text: String) -> Bool {
        (1...40).contains(text.utf8.count)
            && text.utf8.allSatisfy { (48...57).contains($0) || (97...122).contains($0) || $0 == UInt8(ascii: "-") }
    }

    func verdict(on failure: HTTPError, to call: S3Call) -> S3Verdict {
        let what = "\(call.action) on \(target(call))"
        switch failure.kind {
        case .cancelled: return .fail(StoreError(.cancelled, "\(what) was cancelled"))
        case .tls:
            return .fail(
                StoreError(
                    .invalid,
                    "\(failure.message): this is no TLS connection to be trusted; check the endpoint and --ca-file"
                ))
        case .badRequest: return .fail(StoreError(.invalid, "\(what): \(failure.message)"))
        case .tooLarge, .malformed: return .suspicious(StoreError(.protocolViolation, "\(what): \(failure.message)"))
        case .refused: return .suspicious(StoreError(.protocolViolation, "\(what): \(failure.message)"))
        case .source: return .fail(StoreError(.inputOutput, "\(what): \(failure.message)"))
        case .resolve:
            return .retry(
                StoreError(
                    .unavailable, "\(failure.message): the host name cannot be resolved; check the endpoint and the DNS"
                ), after: nil)
        case .connect:
            return .retry(
                StoreError(
                    .unavailable,
                    "\(failure.message): nobody answers there; check the endpoint and that the server runs"), after: nil
            )
        case .proxy: return .retry(StoreError(.unavailable, "\(failure.message): check the proxy"), after: nil)
        case .timeout, .reset, .truncated, .resources:
            return .retry(StoreError(.unavailable, "\(what): \(failure.message)"), after: nil)
        }
    }

    private func refusal(_ call: S3Call, _ document: S3ErrorDocument, _ status: Int) -> StoreError {
        switch document.code {
        case "SignatureDoesNotMatch":
            error(.accessDenied, call, "was refused: the secret access key of the \(who) is wrong", document)
        default:
            error(.accessDenied, call, "was refused to \(who): they need this permission", document, status)
        }
    }

    private var who: String { source.map { "credentials from \($0)" } ?? "anonymous callers" }

    private func target(_ call: S3Call) -> String {
        "s3://\(bucket)" + (call.key.map { "/\($0.description.printable)" } ?? "") + " at \(origin)"
    }

    private func error(
        _ kind: StoreError.Kind, _ call: S3Call, _ what: String, _ document: S3ErrorDocument, _ status: Int? = nil
    ) -> StoreError {
        let code = document.code.isEmpty ? status.map { "HTTP \($0)" } : document.code.printable
        return StoreError(kind, "\(call.action) on \(target(call)) \(what)" + (code.map { " (\($0))" } ?? ""))
    }

    /// Seconds, or a date that is compared with the answer's own (RFC 9110, 10.2.3).
    private func retryAfter(_ response: HTTPResponse) -> Duration? {
        guard let text = response.headers["retry-after"] else { return nil }
        if let seconds = Int64(text) { return .seconds(max(0, min(seconds, 86_400))) }
        guard let date = CivilTime(httpDate: text)?.fileTime,
            let now = response.headers["date"].flatMap({ CivilTime(httpDate: $0) })?.fileTime
        else { return nil }
        return .seconds(max(0, min(date.seconds - now.seconds, 86_400)))
    }
}
