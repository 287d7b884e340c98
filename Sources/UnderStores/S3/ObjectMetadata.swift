import Glibc
import Platform

/// Turns the headers of an object into attributes. POSIX attributes are user metadata in the form that s3fs and
/// `rclone --metadata` write: `mode` (octal, or s3fs's decimal st_mode), `uid`, `gid`, `mtime` (seconds, with a
/// fraction).
package enum ObjectMetadata {
    /// nil when there is no usable `Content-Length`.
    package static func attributes(of headers: HTTPHeaders) -> ObjectAttributes? {
        guard let size = headers["content-length"].flatMap({ UInt64($0) }) else { return nil }
        let stored = headers["last-modified"].flatMap { CivilTime(httpDate: $0) }?.fileTime ?? FileTime(seconds: 0)
        let mode = headers["x-amz-meta-mode"].flatMap(mode(_:))
        var attributes = ObjectAttributes(
            kind: .file, size: size, version: version(tag: headers["etag"], modified: stored, size: size),
            modified: headers["x-amz-meta-mtime"].flatMap(time(_:)) ?? stored,
            permissions: mode.map { $0 & 0o7777 }, uid: headers["x-amz-meta-uid"].flatMap { UInt32($0) },
            gid: headers["x-amz-meta-gid"].flatMap { UInt32($0) })
        if let mode, mode & S_IFMT == S_IFLNK {
            attributes.kind = .symbolicLink
        } else if isDirectory(headers, size: size, mode: mode) {
            attributes.kind = .directory
            attributes.size = 0
            attributes.version = nil
        }
        return attributes
    }

    /// s3fs's old form of a directory is an empty object of its own content type.
    private static func isDirectory(_ headers: HTTPHeaders, size: UInt64, mode: UInt32?) -> Bool {
        guard size == 0 else { return false }
        return headers["content-type"]?.hasPrefix("application/x-directory") == true
            || mode.map { $0 & S_IFMT == S_IFDIR } == true
    }

    /// What names the bytes of an object. Some stores list ETags without the quotes that the header has; they are
    /// added, so that a listing and a lookup give the same text. Without an ETag it is the time of the change with the
    /// size.
    package static func version(tag: String?, modified: FileTime, size: UInt64) -> ObjectVersion {
        guard let tag, !tag.isEmpty else {
            return ObjectVersion(ByteString("\(undatedPrefix)\(modified.seconds);size=\(size)"))
        }
        let isQuoted = tag.hasPrefix("\"") || tag.hasPrefix("W/\"")
        return ObjectVersion(ByteString(isQuoted ? tag : "\"\(tag)\""))
    }

    private static let undatedPrefix = "modified="

    /// The conditional header that lets a GET succeed only while the object has `version`.
    package static func condition(_ version: ObjectVersion) -> (name: String, value: String) {
        let text = version.bytes.description
        guard text.hasPrefix(undatedPrefix),
            let seconds = Int64(text.dropFirst(undatedPrefix.count).prefix { $0 != ";" })
        else { return ("If-Match", text) }
        return ("If-Unmodified-Since", CivilTime(FileTime(seconds: seconds)).httpDate)
    }

    /// s3fs writes the whole st_mode as a decimal number (33188), rclone writes octal (100644 or 0644). A number that
    /// is a st_mode when read as decimal is taken so: of the modes of files and links, none looks like that in octal. A
    /// leading zero, as Larder writes it, means octal to all of them.
    static func mode(_ text: String) -> UInt32? {
        let types: Set<UInt32> = [S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK]
        let widest: UInt32 = 0o177777
        if !text.hasPrefix("0"), let decimal = UInt32(text), decimal <= widest, types.contains(decimal & S_IFMT) {
            return decimal
        }
        // Permissions alone, which some tools write as a decimal number as well: 493 is 0755, and no octal number.
        if text.utf8.contains(where: { $0 == 56 || $0 == 57 }), let decimal = UInt32(text), decimal <= 0o7777 {
            return decimal
        }
        guard let octal = UInt32(text, radix: 8), octal <= widest else { return nil }
        return octal <= 0o7777 || types.contains(octal & S_IFMT) ? octal : nil
    }

    /// Seconds with an optional fraction, or RFC 3339 as newer rclone versions write it.
    static func time(_ text: String) -> FileTime? {
        let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        if let seconds = parts.first.flatMap({ Int64($0) }) {
            let fraction = parts.count > 1 ? parts[1].prefix(9) : ""
            guard fraction.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
            let padded = String(fraction) + String(repeating: "0", count: 9 - fraction.utf8.count)
            return FileTime(seconds: seconds, nanoseconds: UInt32(padded) ?? 0)
        }
        guard let dot = text.firstIndex(of: "."), text.last == "Z" else { return CivilTime(iso8601: text)?.fileTime }
        guard var time = CivilTime(iso8601: text)?.fileTime else { return nil }
        let digits = text[text.index(after: dot)...].prefix { $0.isNumber }.prefix(9)
        time.nanoseconds = UInt32(String(digits) + String(repeating: "0", count: 9 - digits.utf8.count)) ?? 0
        return time
    }
}
