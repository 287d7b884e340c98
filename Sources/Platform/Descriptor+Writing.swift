import CLinux
import Glibc
import SystemPackage

extension Descriptor {
    /// Writes all of `bytes` at the end of the file, wherever other writers have moved that meanwhile (pwritev2(2) with
    /// RWF_APPEND). Throws the first errno.
    package func append(_ bytes: UnsafeRawBufferPointer) throws(Errno) {
        var written = 0
        while written < bytes.count {
            let count = larder_append(raw, bytes.baseAddress! + written, bytes.count - written)
            if count >= 0 {
                written += count
            } else if count != -Int(EINTR) {
                throw Errno(rawValue: CInt(-count))
            }
        }
    }

    /// fallocate(2) with the kernel's mode bits.
    package func allocate(mode: Int32, at offset: UInt64, length: UInt64) throws(Errno) {
        _ = try Errno.check(larder_fallocate(raw, mode, offset, length))
    }

    /// copy_file_range(2): copies at most `length` bytes and returns how many; 0 at the end of this file.
    package func copy(from offset: UInt64, to other: Descriptor, at place: UInt64, length: Int) throws(Errno) -> Int {
        try Errno.check(larder_copy_range(raw, offset, other.raw, place, length))
    }

    /// The next data, or the next hole, from `offset` on: lseek(2) with SEEK_DATA or SEEK_HOLE. Throws ENXIO at the end.
    package func seek(toHole: Bool, from offset: UInt64) throws(Errno) -> UInt64 {
        UInt64(try Errno.check(toHole ? larder_seek_hole(raw, offset) : larder_seek_data(raw, offset)))
    }

    /// fsync(2), or fdatasync(2) with `dataOnly`. Blocks its thread for the disk.
    package func synchronize(dataOnly: Bool) throws(Errno) {
        guard (dataOnly ? fdatasync(raw) : fsync(raw)) == 0 else { throw Errno(rawValue: errno) }
    }
}
