import BlockCaching
import Coordination
import Platform

/// A session's right to read one version, and what it was lent for it. Ends with `close` or with the session.
final class Lease: Sendable {
    /// What serves the reads.
    enum Backing: Sendable {
        case cached(CachedObject)
        case source
        case inline
        /// Fetched for each read, past the cache.
        case store
        /// The file that is being written.
        case staged(StagedFile)
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
    let isWriting: Bool
    let loan: BlockLoan?
    let backingID: FuseBacking?
    /// The file of a local store that was lent, to be lent again to a successor of the mount's process.
    let lentFile: Descriptor?
    private let onClose: (@Sendable () -> Void)?

    init(
        number: UInt64, inode: UInt64, mount: MountPoint, path: ByteString, record: InodeRecord, mode: String,
        backing: Backing, isWriting: Bool = false, loan: BlockLoan? = nil, backingID: FuseBacking? = nil,
        lentFile: Descriptor? = nil, onClose: (@Sendable () -> Void)? = nil
    ) {
        self.number = number
        self.inode = inode
        self.mount = mount
        self.path = path
        self.record = record
        self.mode = mode
        self.backing = backing
        self.isWriting = isWriting
        self.loan = loan
        self.backingID = backingID
        self.lentFile = lentFile
        self.onClose = onClose
    }

    /// Whether the kernel reads and writes by itself.
    var isPassthrough: Bool { backingID != nil }

    func close() {
        backingID?.close()
        loan?.close()
        onClose?()
    }
}
