import Glibc
import SystemPackage

/// A shared memory mapping of the start of a file; unmapped when the last reference goes.
///
/// The memory is shared with other processes: read and write it only through the atomic or bytewise operations whose
/// ordering the data structure on it defines.
package final class MappedRegion: @unchecked Sendable {
    package let base: UnsafeMutableRawPointer
    package let count: Int

    /// mmap(2), MAP_SHARED, of the first `count` (1…) bytes of `file`.
    package init(_ file: Descriptor, count: Int, writable: Bool) throws(Errno) {
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        guard let base = mmap(nil, count, protection, MAP_SHARED, file.raw, 0), base != MAP_FAILED else {
            throw Errno(rawValue: errno)
        }
        self.base = base
        self.count = count
    }

    deinit { munmap(base, count) }
}
