import CLinux
import SystemPackage

extension Descriptor {
    /// ioctl_ficlone(2): makes this file share the blocks of `other`. Throws EOPNOTSUPP, EXDEV, … where it cannot.
    package func clone(_ other: Descriptor) throws(Errno) { _ = try Errno.check(larder_clone(raw, other.raw)) }

    /// copy_file_range(2) of `range` of `other` to the same place of this file. Returns how many bytes were copied: fewer
    /// when `other` ends. Throws ENOSPC, EXDEV, EIO, ….
    package func copy(_ range: Range<UInt64>, of other: Descriptor) throws(Errno) -> UInt64 {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let step = Int(min(range.upperBound - offset, 1 << 30))
            let count = try Errno.check(larder_copy_piece(other.raw, raw, offset, step))
            if count == 0 { break }
            offset += UInt64(count)
        }
        return offset - range.lowerBound
    }
}
