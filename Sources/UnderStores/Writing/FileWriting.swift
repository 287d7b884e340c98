import Platform

/// A store of files that are changed in place: the operations are the system calls of the same name, done beneath the
/// store's root without following links, with the errno of the call as the error (`FileFailure`).
///
/// - Paths are as in `UnderStore`, of any depth; a symbolic link on the way is ELOOP or ENOTDIR, an empty part, `.` or `..` ENOENT.
///   Calls that make, remove or rename the root fail with EEXIST or EBUSY.
/// - Ownership, permissions, set-group-ID directories and sticky bits are the kernel's business: see `Caller`.
/// - Modes are used as they are given: the umask of this process is not applied; a directory's default ACL is.
/// - Attributes that a call returns are those that `lookup` would give, and their version is that of the file now.
/// - Every call may be made from any task, many at once. Cancelling the task does not stop one that has begun.
package protocol FileWriting: UnderStore {
    /// open(2) with `flags` of O_RDONLY, O_WRONLY, O_RDWR, O_TRUNC, O_APPEND, O_SYNC, O_DSYNC, O_DIRECT, O_NOATIME (others
    /// are left out); of a regular file only: EISDIR, ELOOP (a symbolic link), ENXIO (a pipe, socket or device).
    /// - Parameter identity: `fileIdentity` of the file that is meant; ESTALE when the name has another.
    func open(_ path: ByteString, flags: CInt, identity: ByteString?, as caller: Caller) async throws(FileFailure)
        -> Descriptor
    /// open(2) with O_CREAT | O_EXCL and `flags` as in `open`. Of `mode` the permission bits (07777) count.
    func create(_ path: ByteString, flags: CInt, mode: UInt32, as caller: Caller) async throws(FileFailure)
        -> (Descriptor, ObjectAttributes)
    func makeDirectory(_ path: ByteString, mode: UInt32, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    /// mknod(2): `mode` with its type, `device` a dev_t (0 but for devices).
    func makeNode(_ path: ByteString, mode: UInt32, device: UInt64, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    func makeLink(_ path: ByteString, target: ByteString, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    /// link(2) of the file itself, also of a symbolic link. The attributes are those of both names.
    func makeHardLink(_ path: ByteString, to existing: ByteString, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    func remove(_ path: ByteString, as caller: Caller) async throws(FileFailure)
    func removeDirectory(_ path: ByteString, as caller: Caller) async throws(FileFailure)
    /// renameat2(2) with `flags` of RENAME_NOREPLACE, RENAME_EXCHANGE; EINVAL with others.
    func rename(_ path: ByteString, to destination: ByteString, flags: UInt32, as caller: Caller)
        async throws(FileFailure)
    /// chown(2), chmod(2), truncate(2), utimensat(2) of the file or link itself, in this order; chmod of a link is
    /// EOPNOTSUPP. When one fails, those before it have happened.
    func change(_ path: ByteString, _ change: AttributeChange, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    /// The same for an open file, which may have no name any more.
    func change(_ file: Descriptor, _ change: AttributeChange, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    /// A descriptor (O_PATH) of the file, link or directory itself, for `change` and `attributes(of:)` when its last name
    /// is gone.
    func hold(_ path: ByteString) async throws(FileFailure) -> Descriptor
    /// As `open` by name, of a held regular file.
    func open(_ file: Descriptor, flags: CInt, as caller: Caller) async throws(FileFailure) -> Descriptor
    /// fstat(2) of an open file, which may have no name any more.
    func attributes(of file: Descriptor) async throws(FileFailure) -> ObjectAttributes
    /// The value of an attribute of the file or link itself. ENODATA when there is none, and for the names that are
    /// Larder's own (`user.larder.…`).
    func extendedAttribute(_ path: ByteString, _ name: ByteString, as caller: Caller) async throws(FileFailure)
        -> ByteString
    /// The names, without Larder's own, and without `trusted.…` unless the caller is root (listxattr(2)).
    func extendedAttributes(_ path: ByteString, as caller: Caller) async throws(FileFailure) -> [ByteString]
    /// setxattr(2) with `flags` of XATTR_CREATE, XATTR_REPLACE. EPERM for Larder's own names.
    func setExtendedAttribute(
        _ path: ByteString, _ name: ByteString, _ value: ByteString, flags: CInt, as caller: Caller
    ) async throws(FileFailure)
    func removeExtendedAttribute(_ path: ByteString, _ name: ByteString, as caller: Caller) async throws(FileFailure)
    /// fsync(2) of a directory.
    func synchronizeDirectory(_ path: ByteString) async throws(FileFailure)
}

/// Who asks, as the kernel tells a file system, and what is still to be checked.
package struct Caller: Hashable, Sendable {
    package var uid, gid: UInt32
    /// True when the kernel has checked the caller against the file's own attributes (FUSE's default_permissions) and
    /// the mount process that says so is trusted (root, or the user of this process): the call is made with this
    /// process's rights, and what it creates belongs to `uid` and `gid` from its first moment.
    /// False: the call is made as `uid` and `gid` without supplementary groups or capabilities, so that the kernel checks it.
    /// In a process that may not take another identity both are calls with its own.
    package var isChecked: Bool

    package init(uid: UInt32, gid: UInt32, isChecked: Bool = false) {
        self.uid = uid
        self.gid = gid
        self.isChecked = isChecked
    }
}

/// What is to change of a file; nil leaves a field as it is.
package struct AttributeChange: Hashable, Sendable {
    /// Permission bits (07777).
    package var permissions: UInt32?
    package var uid, gid: UInt32?
    package var size: UInt64?
    package var accessed: TimeChange?
    package var modified: TimeChange?
    package init() {}

    package enum TimeChange: Hashable, Sendable {
        case now
        case at(FileTime)
    }
}

/// A system call of a local store failed.
package struct FileFailure: Error, Hashable, Sendable, CustomStringConvertible {
    package let errorNumber: CInt
    /// One line: what failed, on what.
    package let message: String
    package init(_ errorNumber: CInt, _ message: String) {
        self.errorNumber = errorNumber
        self.message = message
    }
    package var description: String { message }
}
