import Platform

/// Lets the bytes of one range of one version pass to a sink, over as many answers as it takes; whatever else a store
/// may answer ends before its first byte has passed.
final class ObjectBody: S3BodyConsumer, @unchecked Sendable {
    private let name: String
    private let range: Range<UInt64>
    private let sink: any ReadSink
    // Touched on the transport's thread during a transfer, and by the reading task between two.
    private var version: ObjectVersion?
    private var next: UInt64
    private var skip: UInt64 = 0
    private var failure: S3BodyProblem?

    private struct Refused: Error {}

    init(name: String, range: Range<UInt64>, expecting version: ObjectVersion?, sink: any ReadSink) {
        self.name = name
        self.range = range
        self.version = version
        self.sink = sink
        next = range.lowerBound
    }

    /// The headers that ask for what is still missing.
    var headers: [(name: String, value: String)] {
        var headers = [(name: "Range", value: "bytes=\(next)-\(range.upperBound - 1)")]
        if let version { headers.append(ObjectMetadata.condition(version)) }
        return headers
    }

    func begin(_ response: HTTPResponse) throws -> HTTPBodyDisposition {
        failure = nil
        do { try check(response) } catch {
            failure = error.kind == .versionChanged ? .fatal(error) : .suspicious(error)
            throw error
        }
        return .stream
    }

    func receive(_ bytes: UnsafeRawBufferPointer) throws {
        let skipped = Int(min(skip, UInt64(bytes.count)))
        skip -= UInt64(skipped)
        let wanted = bytes[skipped...].prefix(Int(clamping: range.upperBound - next))
        if !wanted.isEmpty {
            do { try sink.receive(UnsafeRawBufferPointer(rebasing: wanted), at: next) } catch {
                failure = .fatal(StoreError(.sink, "reading \(name): \(error)"))
                throw error
            }
            next += UInt64(wanted.count)
        }
        // Only of a whole object: the length of a partial answer was checked before.
        if next == range.upperBound, skipped + wanted.count < bytes.count { throw Refused() }
    }

    func problem() -> S3BodyProblem? {
        if let failure { return failure }
        guard next < range.upperBound else { return nil }
        return .suspicious(violation("the body ended \(range.upperBound - next) bytes too early"))
    }

    private func check(_ response: HTTPResponse) throws(StoreError) {
        guard let length = response.headers["content-length"].flatMap({ UInt64($0) }) else {
            throw violation("the answer has no Content-Length")
        }
        let part = try response.headers["content-range"].map { text throws(StoreError) in
            guard let part = ContentRange(text) else {
                throw violation("the Content-Range \"\(text.printable)\" is malformed")
            }
            return part
        }
        skip = 0
        let wanted = next..<range.upperBound
        switch response.status {
        case 206 where part == nil: throw violation("a partial answer has no Content-Range")
        case 206, 200:
            let isWhole = part == nil && length != UInt64(wanted.count)
            try checkVersion(response, size: part?.size ?? (isWhole || next == 0 ? length : nil))
            if let part {
                guard part.range == wanted, length == UInt64(wanted.count) else {
                    throw violation("asked for bytes \(wanted), the answer has bytes \(part.range), \(length) long")
                }
            } else if isWhole {  // the store ignores Range
                guard length >= range.upperBound else {
                    throw violation("the answer has \(length) bytes, asked was for bytes \(wanted)")
                }
                skip = next
            }
        default: throw violation("the answer has status \(response.status)")
        }
    }

    /// Stores that ignore `If-Match` are found out here. The first answer settles the version for those that follow.
    private func checkVersion(_ response: HTTPResponse, size: UInt64?) throws(StoreError) {
        let tag = response.headers["etag"]
        let modified = response.headers["last-modified"].flatMap { CivilTime(httpDate: $0) }?.fileTime
        if tag == nil || tag == "" {
            guard modified != nil, size != nil else {
                throw violation("the answer has neither ETag nor Last-Modified and size")
            }
        }
        let actual = ObjectMetadata.version(tag: tag, modified: modified ?? FileTime(seconds: 0), size: size ?? 0)
        if let version, version != actual {
            throw StoreError(
                .versionChanged, "\(name) has changed: it has version \(actual.description.printable), not \(version)")
        }
        version = actual
    }

    private func violation(_ what: String) -> StoreError {
        StoreError(.protocolViolation, "reading \(name): \(what)")
    }
}

/// `bytes 0-499/1234` (RFC 9110, 14.4).
package struct ContentRange: Hashable, Sendable {
    package let range: Range<UInt64>
    /// Of the whole object; nil for `*`.
    package let size: UInt64?

    package init?(_ text: String) {
        guard text.lowercased().hasPrefix("bytes ") else { return nil }
        let parts = text.dropFirst(6).split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2 else { return nil }
        let bounds = parts[0].split(separator: "-", omittingEmptySubsequences: false)
        guard bounds.count == 2, let first = UInt64(bounds[0]), let last = UInt64(bounds[1]), first <= last, last < .max
        else { return nil }
        range = first..<(last + 1)
        size = parts[1] == "*" ? nil : UInt64(parts[1])
        if parts[1] != "*", size == nil { return nil }
        if let size, last >= size { return nil }
    }
}
