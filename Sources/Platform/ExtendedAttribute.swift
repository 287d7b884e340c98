import CLinux
import SystemPackage

/// Extended attributes of files (xattr(7)).
package enum ExtendedAttribute {
    /// getxattr(2), following symbolic links. Throws ENODATA when the file has no such attribute, ENOTSUP where the file
    /// system has none at all, ENOENT, ….
    package static func value(_ name: String, of path: String) throws(Errno) -> ByteString {
        var bytes = [UInt8](repeating: 0, count: 4096)  // ours are paths and numbers
        let length = try Errno.check(
            bytes.withUnsafeMutableBytes { larder_getxattr(path, name, $0.baseAddress, $0.count) })
        return ByteString(bytes.prefix(length))
    }

    /// setxattr(2), following symbolic links. Throws ENOTSUP where the file system has none, EACCES, ….
    package static func set(_ name: String, to value: ByteString, of path: String) throws(Errno) {
        _ = try Errno.check(larder_setxattr(path, name, value.bytes, value.count))
    }
}
