import Crypto
import Platform
import TestSupport

@testable import UnderStores

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// A bucket that keeps what is put and enforces conditions, for servers that spoil answers after the work is done.
final class ScriptedWrites: Sendable {
    struct Object {
        var bytes: [UInt8]
        var headers: HTTPHeaders
        var tag: String
    }

    let objects = Lock<[String: Object]>([:])
    let parts = Lock<[Int: [UInt8]]>([:])
    let isCompleted = Lock(false)

    static func tag(_ bytes: [UInt8]) -> String { "\"\(hexadecimal(Insecure.MD5.hash(data: bytes)))\"" }

    private static func target(_ request: FaultyServer.Request) -> (path: String, query: String) {
        let parts = request.target.split(separator: "?", maxSplits: 1)
        return (String(parts[0]), parts.count > 1 ? String(parts[1]) : "")
    }

    func answer(_ request: FaultyServer.Request) -> Fault {
        let (path, query) = Self.target(request)
        switch request.method {
        case "HEAD":
            guard let object = objects.withLock({ $0[path] }) else { return .answer(404) }
            let kept = object.headers.fields.filter { $0.name.lowercased().hasPrefix("x-amz-meta-") }
            return .answer(
                200,
                headers: kept.map { ($0.name, $0.value) } + [
                    ("ETag", object.tag), ("Content-Length", "\(object.bytes.count)"),
                    ("Last-Modified", "Fri, 24 May 2013 00:00:00 GMT"),
                ])
        case "PUT" where query.contains("partNumber="):
            let number = Int(query.split(separator: "&").first { $0.hasPrefix("partNumber=") }?.dropFirst(11) ?? "")
            parts.withLock { $0[number ?? 0] = request.body }
            return .answer(200, headers: [("ETag", Self.tag(request.body))])
        case "PUT": return put(path, request.body, request.headers)
        case "POST" where query.contains("uploads"):
            return .answer(
                200,
                body: Array(
                    "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>".utf8))
        case "POST": return complete(path, request.headers)
        case "DELETE":
            objects.withLock { _ = $0.removeValue(forKey: path) }
            return .answer(204)
        default: return .error(501, "NotImplemented")
        }
    }

    private func refuses(_ path: String, _ headers: HTTPHeaders) -> Bool {
        let found = objects.withLock { $0[path]?.tag }
        if headers["if-none-match"] != nil { return found != nil }
        if let wanted = headers["if-match"] { return found != wanted }
        return false
    }

    private func put(_ path: String, _ bytes: [UInt8], _ headers: HTTPHeaders) -> Fault {
        if refuses(path, headers) { return .error(412, "PreconditionFailed") }
        objects.withLock { $0[path] = Object(bytes: bytes, headers: headers, tag: Self.tag(bytes)) }
        return .answer(200, headers: [("ETag", Self.tag(bytes)), ("Content-Length", "0")])
    }

    private func complete(_ path: String, _ headers: HTTPHeaders) -> Fault {
        if isCompleted.withLock({ $0 }) { return .error(404, "NoSuchUpload") }
        if refuses(path, headers) { return .error(412, "PreconditionFailed") }
        let all = parts.withLock { $0.sorted { $0.key < $1.key }.map(\.value) }
        let tag = UploadDigest.tag(ofParts: all.map { Self.tag($0) }) ?? ""
        objects.withLock { $0[path] = Object(bytes: Array(all.joined()), headers: HTTPHeaders(), tag: tag) }
        isCompleted.withLock { $0 = true }
        return .answer(
            200, body: Array("<CompleteMultipartUploadResult><ETag>\(tag)</ETag></CompleteMultipartUploadResult>".utf8))
    }
}

extension S3Store {
    /// As if a probe had found it to behave like AWS.
    func assume(_ behaviour: S3Behaviour = .aws) async throws -> S3Store {
        _ = try await traits.settle { () throws(StoreError) in behaviour }
        return self
    }
}
