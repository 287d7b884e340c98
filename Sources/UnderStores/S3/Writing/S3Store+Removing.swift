import Crypto
import Platform

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

extension S3Store {
    /// Keys in one DeleteObjects (Amazon S3 API Reference).
    private static let mostAtOnce = 1000

    package func remove(_ path: ByteString, if condition: WriteCondition) async throws(StoreError) {
        let key = try rawKey(path)
        guard condition != .none else {
            try await removeKey(key, [])
            return
        }
        // Few stores have a conditional DELETE, so it is looked at in any case.
        guard let headers = try await objectHead(key) else { return }
        guard case .version(let version) = condition, self.version(headers) == version else {
            throw changed(key, condition)
        }
        let answer = try await removeKey(key, self.headers(of: condition))
        if answer == 412 { throw changed(key, condition) }
    }

    /// Removes one key; one that is gone is no error. Returns the status of the answer.
    @discardableResult
    func removeKey(
        _ key: ByteString, _ headers: [(name: String, value: String)]
    ) async throws(StoreError) -> Int {
        let headers = payerHeaders + headers
        return try await client.perform {
            S3Call("s3:DeleteObject", .delete, key: key, headers: headers, verb: .change)
        }.status
    }

    package func removeAll(
        _ paths: [ByteString]
    ) async throws(StoreError) -> [(path: ByteString, error: StoreError)] {
        var failures: [(path: ByteString, error: StoreError)] = []
        var (batch, single): ([ByteString], [ByteString]) = ([], [])
        for path in paths {
            do throws(StoreError) {
                let key = try rawKey(path)
                // What XML cannot hold can be removed all the same; and some stores pass over markers in a batch.
                let isMarker = key.bytes.last == UInt8(ascii: "/") && traits.behaviour != .aws
                if isMarker || XMLText.escaped(key) == nil { single.append(path) } else { batch.append(path) }
            } catch { failures.append((path, error)) }
        }
        var start = 0
        while start < batch.count {
            let part = Array(batch[start..<min(start + Self.mostAtOnce, batch.count)])
            start += part.count
            do throws(StoreError) { failures += try await removeTogether(part) } catch {
                guard error.kind == .unsupported || error.kind == .invalid else { throw error }
                single += part
            }
        }
        // The deepest first, for stores whose directories are real below there.
        return failures + (try await removeSingly(single.sorted { $0 > $1 }))
    }

    private func removeTogether(
        _ paths: [ByteString]
    ) async throws(StoreError) -> [(path: ByteString, error: StoreError)] {
        var text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
        text += "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>"
        for path in paths { text += "<Object><Key>\(XMLText.escaped(key(path)) ?? "")</Key></Object>" }
        let body = Array((text + "</Delete>").utf8)
        let digest = try await UploadDigest.of(.bytes(body), withMD5: true)
        let headers = payerHeaders + [(name: "Content-Type", value: "application/xml")] + digest.headers
        let response = try await client.perform {
            var call = S3Call(
                "s3:DeleteObject", .post, query: [("delete", "")], headers: headers, body: body, verb: .change)
            call.answerLimit = 4 << 20
            call.patience = 4
            return call
        }
        guard let result = DeleteResult(response.body) else {
            throw StoreError(.protocolViolation, "\(identity) answered a removal of objects with something else")
        }
        return result.failures.map { failure in
            let path = ByteString(failure.key.bytes.dropFirst(prefix.count))
            let kind: StoreError.Kind = failure.code == "AccessDenied" ? .accessDenied : .unavailable
            let what = "\(failure.message.printable) (\(failure.code.printable))"
            return (path, StoreError(kind, "\(name(path)) cannot be removed: \(what)"))
        }
    }

    private func removeSingly(
        _ paths: [ByteString]
    ) async throws(StoreError) -> [(path: ByteString, error: StoreError)] {
        await withTaskGroup(of: (path: ByteString, error: StoreError)?.self) { group in
            var failures: [(path: ByteString, error: StoreError)] = []
            for (index, path) in paths.enumerated() {
                if index >= 16, let failure = await group.next() ?? nil { failures.append(failure) }
                group.addTask {
                    do throws(StoreError) {
                        try await self.removeKey(self.key(path), [])
                        return nil
                    } catch { return (path, error) }
                }
            }
            for await case let failure? in group { failures.append(failure) }
            return failures
        }
    }
}

/// The answer of DeleteObjects; with `Quiet` it names what could not be removed.
struct DeleteResult {
    var failures: [(key: ByteString, code: String, message: String)] = []

    /// nil when `body` is no such document.
    init?(_ body: [UInt8]) {
        guard let reader = try? XMLReader(Handler(), sizeLimit: 4 << 20) else { return nil }
        do {
            try body.withUnsafeBytes { try reader.feed($0) }
            try reader.finish()
        } catch { return nil }
        guard reader.handler.isResult else { return nil }
        failures = reader.handler.failures
    }

    private struct Handler: XMLElementHandler {
        var isResult = false
        var failures: [(key: ByteString, code: String, message: String)] = []
        private var failure: (key: ByteString, code: String, message: String)?

        mutating func begin(_ name: String, depth: Int) {
            if depth == 1 { isResult = name == "DeleteResult" }
            if depth == 2, name == "Error" { failure = ("", "", "") }
        }

        mutating func end(_ name: String, depth: Int, text: [UInt8]) {
            switch (depth, name) {
            case (2, "Error"):
                // A key that was gone already is what was wanted.
                if let failure, failure.code != "NoSuchKey" { failures.append(failure) }
                failure = nil
            case (3, "Key"): failure?.key = ByteString(text)
            case (3, "Code"): failure?.code = String(decoding: text, as: UTF8.self)
            case (3, "Message"): failure?.message = String(decoding: text, as: UTF8.self)
            default: break
            }
        }
    }
}
