import Coordination
import Foundation
import Glibc
import Platform

/// One file or directory as `stat --json` and `ls --json` show it. Keys without a value are left out.
package struct NodeReport: Encodable, Hashable, Sendable {
    /// The path as it was asked for (`stat`).
    package var path: String?
    /// The name in its directory (`ls`); bytes that are not UTF-8 are shown as U+FFFD.
    package var name: String?
    /// The name's bytes in base64, when it is not UTF-8.
    package var nameBase64: String?
    package var inode: UInt64
    /// file, directory, symlink, special.
    package var kind: String
    package var size: UInt64
    /// Four octal digits.
    package var mode: String
    package var uid: UInt32
    package var gid: UInt32
    /// RFC 3339, UTC.
    package var modified: String
    /// Where the bytes come from; never with a credential.
    package var url: String?
    package var version: String?
    package var cachedBytes: UInt64?
    /// ram, disk; absent when nothing is cached.
    package var tier: String?
    /// The socket of the mount's coordinator (`stat`).
    package var coordinator: String?
    /// The path within the volume (`stat`).
    package var volumePath: String?

    package init(_ attributes: WireAttributes) {
        inode = attributes.inode
        size = attributes.size
        uid = attributes.uid
        gid = attributes.gid
        kind =
            switch attributes.mode & S_IFMT {
            case S_IFREG: "file"
            case S_IFDIR: "directory"
            case S_IFLNK: "symlink"
            default: "special"
            }
        let permissions = String(attributes.mode & 0o7777, radix: 8)
        mode = String(repeating: "0", count: 4 - permissions.count) + permissions
        modified = Timestamp.utc(FileTime(attributes))
    }

    package init(_ description: WireDescription) {
        self.init(description.attributes)
        url = description.url.isEmpty ? nil : description.url
        version = description.version.isEmpty ? nil : description.version
        cachedBytes = kind == "file" ? description.cachedBytes : nil
        tier = description.tier.isEmpty ? nil : description.tier
        volumePath = description.path.isEmpty ? nil : description.path
    }

    package mutating func setName(_ bytes: Data) {
        name = String(decoding: bytes, as: UTF8.self)
        nameBase64 = String(validating: bytes, as: UTF8.self) == nil ? bytes.base64EncodedString() : nil
    }

    /// "-", "100%", "37%": how much of a file is cached. Only what is whole is called 100%.
    package var cachedText: String {
        guard let cachedBytes else { return "-" }
        guard size > 0, cachedBytes < size else { return "100%" }
        return "\(min(99, Int(Double(cachedBytes) / Double(size) * 100)))%"
    }
}

extension FileTime {
    /// When the file was modified. A store's time may be nonsense, and gmtime_r(3) fails beyond year 2^31.
    init(_ attributes: WireAttributes) {
        let seconds = min(max(attributes.modifiedSeconds, -62_135_596_800), 253_402_300_799)
        self.init(seconds: seconds, nanoseconds: min(attributes.modifiedNanoseconds, 999_999_999))
    }
}
