import CLinux
import Glibc
import SystemPackage

/// An open file descriptor with shared ownership; it is closed when the last reference goes.
///
/// Reads and writes are positional, so that one descriptor serves every thread.
package final class Descriptor: Sendable {
    /// The number for system calls made while this object is alive; never close it.
    package let raw: CInt

    /// Takes ownership of `raw`.
    package init(owning raw: CInt) { self.raw = raw }

    deinit { close(raw) }

    /// open(2), close-on-exec. Throws its errno.
    package static func open(_ path: String, _ flags: CInt, mode: UInt32 = 0o600) throws(Errno) -> Descriptor {
        Descriptor(owning: try Errno.check(larder_open(path, flags | O_CLOEXEC, mode)))
    }

    /// memfd_create(2): an anonymous file in memory, whose descriptor can be passed to another process.
    package static func memory(named name: String) throws(Errno) -> Descriptor {
        Descriptor(owning: try Errno.check(larder_memfd(name)))
    }

    /// dup(2), close-on-exec.
    package func duplicate() throws(Errno) -> Descriptor {
        let copy = fcntl(raw, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw Errno(rawValue: errno) }
        return Descriptor(owning: copy)
    }

    /// pread(2) until `buffer` is full or the file ends. Returns the bytes read; throws the first errno.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
        var filled = 0
        while filled < buffer.count {
            let count = pread(raw, buffer.baseAddress! + filled, buffer.count - filled, off_t(offset) + filled)
            if count > 0 {
                filled += count
            } else if count == 0 {
                break
            } else {
                let error = errno
                if error != EINTR { throw Errno(rawValue: error) }
            }
        }
        return filled
    }

    /// pwrite(2) until all of `bytes` is written. Throws the first errno (ENOSPC, EIO, …).
    package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) {
        var written = 0
        while written < bytes.count {
            let count = pwrite(raw, bytes.baseAddress! + written, bytes.count - written, off_t(offset) + written)
            if count >= 0 {
                written += count
            } else {
                let error = errno
                if error != EINTR { throw Errno(rawValue: error) }
            }
        }
    }

    /// ftruncate(2).
    package func resize(to size: UInt64) throws(Errno) {
        guard ftruncate(raw, off_t(size)) == 0 else { throw Errno(rawValue: errno) }
    }

    /// fallocate(2) with FALLOC_FL_PUNCH_HOLE: the range reads as zeros and gives its space back.
    package func punchHole(at offset: UInt64, length: UInt64) throws(Errno) {
        _ = try Errno.check(larder_punch_hole(raw, offset, length))
    }

    /// fdatasync(2).
    package func synchronizeData() throws(Errno) {
        guard fdatasync(raw) == 0 else { throw Errno(rawValue: errno) }
    }

    /// statx(2) of the open file.
    package func status() throws(Errno) -> FileStatus {
        try FileStatus(of: "", in: raw, flags: CInt(LARDER_AT_EMPTY_PATH))
    }

    /// flock(2), exclusive, without waiting. Throws EWOULDBLOCK when another process holds it.
    package func lockExclusively() throws(Errno) { _ = try Errno.check(larder_flock_exclusive(raw)) }
}
