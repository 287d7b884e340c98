import CLinux
import SystemPackage

extension Descriptor {
    /// memfd_create(2) of `size` bytes that can later be sealed.
    package static func sealableMemory(named name: String, size: UInt64) throws(Errno) -> Descriptor {
        Descriptor(owning: try Errno.check(larder_memfd_sealable(name, size)))
    }

    /// Seals a memfd against resizing and against writers other than the mappings that exist (fcntl(2), F_ADD_SEALS).
    package func sealForReaders() throws(Errno) { _ = try Errno.check(larder_seal_for_readers(raw)) }

    /// Whether the file is sealed against shrinking, so that a mapping of it can never fault with SIGBUS.
    package var cannotShrink: Bool { larder_cannot_shrink(raw) == 1 }

    /// syncfs(2): writes the whole file system of this file to its disk.
    package func synchronizeFileSystem() throws(Errno) { _ = try Errno.check(larder_syncfs(raw)) }
}
