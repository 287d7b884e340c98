import CLinux
import SystemPackage

/// A file registered with a FUSE connection for passthrough (FUSE_DEV_IOC_BACKING_OPEN, Linux 6.9).
/// Files that are already open keep their own reference when it is closed. Any thread.
package final class FuseBacking: Sendable {
    /// What an OPEN reply names it by; means something to its connection only.
    package let number: Int32
    private let device: Descriptor
    private let isOpen = Lock(true)

    /// Registers `file` with the connection `device`. Throws EPERM without CAP_SYS_ADMIN, ELOOP when the file lies on a
    /// file system that is itself stacked, such as overlayfs, EOPNOTSUPP where the connection has no passthrough.
    package init(device: Descriptor, file: Descriptor) throws(Errno) {
        number = try Errno.check(larder_fuse_backing_open(device.raw, file.raw))
        self.device = device
    }

    package func close() {
        let wasOpen = isOpen.withLock { isOpen in
            defer { isOpen = false }
            return isOpen
        }
        if wasOpen { _ = larder_fuse_backing_close(device.raw, number) }
    }

    deinit { close() }
}
