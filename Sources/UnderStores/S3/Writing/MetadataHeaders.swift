import Glibc
import Platform

/// Turns what a file has beside its bytes into headers of an object, and back.
///
/// The form is one that s3fs and `rclone --metadata` both read: `mode` as octal with a leading zero (s3fs takes it as C
/// does, rclone always as octal), times as seconds with a fraction, xattrs as s3fs's URL-encoded JSON of Base64.
enum MetadataHeaders {
    /// "Object metadata" (Amazon S3 User Guide): names and values of the user's, without the `x-amz-meta-`.
    private static let mostUserBytes = 2048
    private static let userPrefix = "x-amz-meta-"
    /// The time of a file's last change.
    static let modified = "x-amz-meta-mtime"
    private static let ours: Set<String> = ["mode", "uid", "gid", "mtime", "atime", "ctime", "xattr"]
    /// System headers that belong to the object, and are lost unless they are sent again with a replacement.
    private static let kept: Set<String> = [
        "cache-control", "content-disposition", "content-encoding", "content-language", "expires",
        "x-amz-website-redirect-location",
    ]

    /// - Parameter name: for messages.
    /// - Throws: `.invalid` when it is more than S3 takes, or cannot be written in a header.
    static func headers(
        of metadata: WrittenMetadata, contentType: String, name: String
    ) throws(StoreError) -> [(name: String, value: String)] {
        var user: [(name: String, value: String)] = []
        if let mode = metadata.mode { user.append(("mode", "0" + String(mode, radix: 8))) }
        if let uid = metadata.uid { user.append(("uid", String(uid))) }
        if let gid = metadata.gid { user.append(("gid", String(gid))) }
        for (field, time) in [
            ("mtime", metadata.modified), ("atime", metadata.accessed), ("ctime", metadata.changed),
        ] {
            if let time { user.append((field, text(of: time))) }
        }
        if !metadata.extendedAttributes.isEmpty {
            user.append(("xattr", try AttributeText.encode(metadata.extendedAttributes, name: name)))
        }
        var headers = [(name: "Content-Type", value: metadata.contentType ?? contentType)]
        for (field, value) in metadata.preserved.sorted(by: { $0.key < $1.key }) {
            if field.hasPrefix(userPrefix) {
                let short = String(field.dropFirst(userPrefix.count))
                if !ours.contains(short) { user.append((short, value)) }
            } else if kept.contains(field) {
                headers.append((field, value))
            }
        }
        let size = user.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count }
        guard size <= mostUserBytes else {
            throw StoreError(
                .invalid,
                "the metadata of \(name) has \(size) bytes, but S3 takes \(mostUserBytes): remove extended attributes")
        }
        headers += user.map { (userPrefix + $0.name, $0.value) }
        guard headers.allSatisfy({ $0.value.utf8.allSatisfy { $0 >= 32 && $0 != 127 } }) else {
            throw StoreError(.invalid, "the metadata of \(name) has control characters")
        }
        return headers
    }

    /// What `headers(of:)` was made of, and whatever else must survive a replacement.
    static func metadata(of headers: HTTPHeaders) -> WrittenMetadata {
        var metadata = WrittenMetadata()
        metadata.contentType = headers["content-type"]
        metadata.mode = headers["x-amz-meta-mode"].flatMap(ObjectMetadata.mode(_:))
        metadata.uid = headers["x-amz-meta-uid"].flatMap { UInt32($0) }
        metadata.gid = headers["x-amz-meta-gid"].flatMap { UInt32($0) }
        metadata.modified = headers[modified].flatMap(ObjectMetadata.time(_:))
        metadata.accessed = headers["x-amz-meta-atime"].flatMap(ObjectMetadata.time(_:))
        metadata.changed = headers["x-amz-meta-ctime"].flatMap(ObjectMetadata.time(_:))
        if let text = headers["x-amz-meta-xattr"] { metadata.extendedAttributes = AttributeText.decode(text) }
        for field in headers.fields {
            let name = field.name.lowercased()
            let isForeign = name.hasPrefix(userPrefix) && !ours.contains(String(name.dropFirst(userPrefix.count)))
            if isForeign || kept.contains(name) { metadata.preserved[name] = field.value }
        }
        return metadata
    }

    /// Before 1970 only whole seconds: other readers of the bucket disagree on what a fraction means there.
    private static func text(of time: FileTime) -> String {
        guard time.nanoseconds > 0, time.seconds >= 0 else { return String(time.seconds) }
        let digits = String(time.nanoseconds)
        return "\(time.seconds)." + String(repeating: "0", count: 9 - digits.utf8.count) + digits
    }
}
