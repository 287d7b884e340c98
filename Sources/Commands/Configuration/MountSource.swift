import Platform
import SystemPackage

/// Where the objects of one mount point are.
package enum MountSource: Hashable, Sendable, CustomStringConvertible {
    /// A bucket, and the key prefix without slashes at its ends ("" for the whole bucket).
    case s3(bucket: String, prefix: String)
    /// An absolute path.
    case local(String)

    /// `s3://bucket/prefix`, `file:///dir`, or a path.
    /// - Parameter directory: what a relative path is relative to.
    /// - Throws: `CommandFailure` (usage) that does not name the field: the caller does.
    package init(_ text: String, relativeTo directory: String) throws(CommandFailure) {
        guard !text.isEmpty else { throw CommandFailure(.usage, "is empty: write s3://bucket/prefix or file:///dir") }
        guard !text.utf8.contains(0) else { throw CommandFailure(.usage, "holds a NUL character") }
        guard let separator = text.firstRange(of: "://") else {
            if text.hasPrefix("s3:") || text.hasPrefix("file:") {
                throw CommandFailure(.usage, "\"\(text)\" is not a URL: write s3://bucket/prefix or file:///dir")
            }
            self = .local(FilePaths.absolute(text, relativeTo: directory))
            return
        }
        let scheme = text[..<separator.lowerBound].lowercased()
        let rest = String(text[separator.upperBound...])
        switch scheme {
        case "s3": self = try Self.s3(rest)
        case "file":
            guard rest.hasPrefix("/") else {
                throw CommandFailure(.usage, "\"\(text)\" must name an absolute path: write file:///dir, three slashes")
            }
            self = .local(FilePaths.absolute(rest, relativeTo: "/"))
        case "s3a", "s3n":
            throw CommandFailure(.usage, "\"\(text)\" is Hadoop's spelling: write s3://\(rest)")
        case "http", "https":
            throw CommandFailure(
                .usage, "is the address of a server: write s3://bucket/prefix, and the server as the endpoint")
        default:
            throw CommandFailure(
                .usage, "has the scheme \(scheme), which this release cannot read: use s3:// or file://")
        }
    }

    private static func s3(_ rest: String) throws(CommandFailure) -> MountSource {
        let bucket = String(rest.prefix { $0 != "/" })
        var prefix = rest.dropFirst(bucket.count)
        while prefix.first == "/" { prefix.removeFirst() }
        while prefix.last == "/" { prefix.removeLast() }
        guard !bucket.isEmpty else { throw CommandFailure(.usage, "names no bucket: write s3://bucket/prefix") }
        // Wider than AWS's rule: other servers, and old buckets, have capitals and underscores.
        guard bucket.utf8.count <= 255, bucket != ".", bucket != "..",
            bucket.utf8.allSatisfy({ isBucketByte($0) })
        else {
            throw CommandFailure(.usage, "\"\(bucket)\" cannot be a bucket: letters, digits, '.', '-' and '_' only")
        }
        let parts = prefix.split(separator: "/", omittingEmptySubsequences: false)
        if !prefix.isEmpty, let bad = parts.first(where: { !ByteString($0).isNameable }) {
            throw CommandFailure(
                .usage, "has the part \"\(bad)\" in its prefix, which no directory can be named")
        }
        return .s3(bucket: bucket, prefix: String(prefix))
    }

    private static func isBucketByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    /// The URL, as the coordinator gets it.
    package var description: String {
        switch self {
        case .s3(let bucket, ""): "s3://\(bucket)"
        case .s3(let bucket, let prefix): "s3://\(bucket)/\(prefix)"
        case .local(let path): "file://\(path)"
        }
    }
}
