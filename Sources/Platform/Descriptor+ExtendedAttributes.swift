import CLinux
import SystemPackage

/// Extended attributes (xattr(7)): without `link`, of the file that this descriptor (opened, or `pathOnly`) is, which must not
/// be a symbolic link, and which needs /proc; with it, of the entry of that name in this directory, which may be one
/// (Linux 6.13; ENOTSUP before). Each throws the errno of its call.
extension Descriptor {
    // The longest value and the longest list of names that the kernel passes (limits.h: XATTR_SIZE_MAX, XATTR_LIST_MAX).
    private static let longestAttribute = 64 << 10

    package func extendedAttribute(_ name: ByteString, link: ByteString? = nil) throws(Errno) -> ByteString {
        try Self.withNames(name, link) { name, link throws(Errno) in
            try Self.collect { larder_getxattr_at(raw, link, name, $0.baseAddress, $0.count) }
        }
    }

    package func extendedAttributeNames(link: ByteString? = nil) throws(Errno) -> [ByteString] {
        let names = try Self.withNames("", link) { _, link throws(Errno) in
            try Self.collect { larder_listxattr_at(raw, link, $0.baseAddress, $0.count) }
        }
        return names.bytes.split(separator: 0).map { ByteString($0) }
    }

    /// - Parameter flags: of XATTR_CREATE (1), XATTR_REPLACE (2).
    package func setExtendedAttribute(
        _ name: ByteString, to value: ByteString, flags: CInt, link: ByteString? = nil
    ) throws(Errno) {
        try Self.withNames(name, link) { name, link throws(Errno) in
            _ = try Errno.check(larder_setxattr_at(raw, link, name, value.bytes, value.count, flags))
        }
    }

    package func removeExtendedAttribute(_ name: ByteString, link: ByteString? = nil) throws(Errno) {
        try Self.withNames(name, link) { name, link throws(Errno) in
            _ = try Errno.check(larder_removexattr_at(raw, link, name))
        }
    }

    private static func withNames<Result>(
        _ name: ByteString, _ link: ByteString?,
        _ body: (UnsafePointer<CChar>, UnsafePointer<CChar>?) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        try withName(name) { name throws(Errno) in
            guard let link else { return try body(name, nil) }
            return try withName(link) { link throws(Errno) in try body(name, link) }
        }
    }

    private static func collect(_ call: (UnsafeMutableRawBufferPointer) -> Int) throws(Errno) -> ByteString {
        var bytes = [UInt8](repeating: 0, count: longestAttribute)
        let length = bytes.withUnsafeMutableBytes { call($0) }
        return ByteString(bytes.prefix(try Errno.check(length)))
    }
}
