import BlockCaching
import CLinux
import Coordination
import Platform
import SystemPackage

/// A session's right to read one version, and what it was lent for it. Ends with `close` or with the session.
final class Lease: Sendable {
    /// What serves the reads.
    enum Backing: Sendable {
        case cached(CachedObject)
        case source
        case inline
        /// Fetched for each read, past the cache.
        case store
    }

    let number: UInt64
    let inode: UInt64
    let mount: MountPoint
    /// Within the store.
    let path: ByteString
    let record: InodeRecord
    /// The grant's name in `larder status`.
    let mode: String
    let backing: Backing
    private let loan: BlockLoan?
    private let backingID: BackingID?

    init(
        number: UInt64, inode: UInt64, mount: MountPoint, path: ByteString, record: InodeRecord, mode: String,
        backing: Backing, loan: BlockLoan? = nil, backingID: BackingID? = nil
    ) {
        self.number = number
        self.inode = inode
        self.mount = mount
        self.path = path
        self.record = record
        self.mode = mode
        self.backing = backing
        self.loan = loan
        self.backingID = backingID
    }

    func close() {
        backingID?.close()
        loan?.close()
    }
}

/// A file registered with a mount's FUSE connection for passthrough (FUSE_DEV_IOC_BACKING_OPEN, Linux 6.9).
/// Files that are already open keep their own reference when it is closed.
final class BackingID: Sendable {
    let number: Int32
    private let device: Descriptor
    private let isOpen = Lock(true)

    /// Needs CAP_SYS_ADMIN (EPERM). ELOOP: the file lies on a file system that is itself stacked, such as overlayfs.
    init(device: Descriptor, file: Descriptor) throws(Errno) {
        number = try Errno.check(larder_fuse_backing_open(device.raw, file.raw))
        self.device = device
    }

    func close() {
        let wasOpen = isOpen.withLock { isOpen in
            defer { isOpen = false }
            return isOpen
        }
        if wasOpen { _ = larder_fuse_backing_close(device.raw, number) }
    }

    deinit { close() }
}
