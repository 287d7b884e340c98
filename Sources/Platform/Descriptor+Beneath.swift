import CLinux
import Glibc
import SystemPackage

extension Descriptor {
    /// O_PATH (open(2)): names a file without opening it; good for `status`, `linkTarget` and `open(beneath:)`.
    package static let pathOnly = CInt(LARDER_O_PATH)

    /// openat2(2) of `path` relative to this directory with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, close-on-exec: no
    /// `..`, absolute path or symbolic link leads out of the directory.
    ///
    /// - Parameters:
    ///   - path: relative; empty means this directory itself.
    ///   - flags: open(2) flags; openat2 refuses flags that do not go together with EINVAL.
    ///   - followingLinks: false also refuses links that stay beneath, with ELOOP. Even so `pathOnly | O_NOFOLLOW` opens a
    ///     link at the end of the path as itself.
    /// - Throws: ENOENT, ENOTDIR, EACCES, EXDEV (the path leads out), ELOOP, EINVAL (a NUL in `path`), ….
    package func open(
        beneath path: ByteString, _ flags: CInt, mode: UInt32 = 0o600, followingLinks: Bool = false
    ) throws(Errno) -> Descriptor {
        guard !path.bytes.contains(0) else { throw .invalidArgument }
        let result = (path.isEmpty ? "." : path).withCString {
            larder_open_beneath(raw, $0, flags | O_CLOEXEC, mode, followingLinks ? 1 : 0)
        }
        return Descriptor(owning: try Errno.check(result))
    }

    /// readlinkat(2) with an empty path: the target of the symbolic link that this `pathOnly | O_NOFOLLOW` descriptor is.
    /// Throws ENOENT when it is something else.
    package func linkTarget() throws(Errno) -> ByteString {
        var target = [UInt8](repeating: 0, count: Int(PATH_MAX))  // no Linux file system has longer targets
        let length = target.withUnsafeMutableBytes { buffer in
            readlinkat(raw, "", buffer.baseAddress!.assumingMemoryBound(to: CChar.self), buffer.count)
        }
        guard length >= 0 else { throw Errno(rawValue: errno) }
        return ByteString(target.prefix(length))
    }
}
