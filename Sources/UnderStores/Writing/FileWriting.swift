import Platform

/// A store of files that are changed in place: the operations are the system calls of the same name, done beneath the
/// store's root without following links, with the errno of the call as the error (`FileFailure`).
///
/// Every call runs on the store's threads with the file system identity of `caller` where the process may take it (else
/// with its own), so that ownership, permissions, set-group-ID directories and sticky bits are the kernel's business.
package protocol FileWriting: UnderStore {
    /// open(2) with `flags` of O_RDONLY, O_WRONLY, O_RDWR, O_TRUNC, O_APPEND; of a regular file only.
    /// - Parameter identity: `fileIdentity` of the file that is meant; ESTALE when the name has another.
    func open(_ path: ByteString, flags: CInt, identity: ByteString?, as caller: Caller) async throws(FileFailure)
        -> Descriptor
    /// open(2) with O_CREAT | O_EXCL.
    func create(_ path: ByteString, flags: CInt, mode: UInt32, as caller: Caller) async throws(FileFailure)
        -> (Descriptor, ObjectAttributes)
    func makeDirectory(_ path: ByteString, mode: UInt32, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    func makeNode(_ path: ByteString, mode: UInt32, device: UInt64, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    func makeLink(_ path: ByteString, target: ByteString, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    /// link(2) of the file itself, also of a symbolic link.
    func makeHardLink(_ path: ByteString, to existing: ByteString, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    func remove(_ path: ByteString, as caller: Caller) async throws(FileFailure)
    func removeDirectory(_ path: ByteString, as caller: Caller) async throws(FileFailure)
    /// renameat2(2) with `flags` of RENAME_NOREPLACE, RENAME_EXCHANGE.
    func rename(_ path: ByteString, to destination: ByteString, flags: UInt32, as caller: Caller)
        async throws(FileFailure)
    /// fchmodat, fchownat, truncate, utimensat, in the order of chown, chmod, size, times.
    func change(_ path: ByteString, _ change: AttributeChange, as caller: Caller) async throws(FileFailure)
        -> ObjectAttributes
    func extendedAttribute(_ path: ByteString, _ name: ByteString, as caller: Caller) async throws(FileFailure)
        -> ByteString
    func extendedAttributes(_ path: ByteString, as caller: Caller) async throws(FileFailure) -> [ByteString]
    /// setxattr(2) with `flags` of XATTR_CREATE, XATTR_REPLACE.
    func setExtendedAttribute(
        _ path: ByteString, _ name: ByteString, _ value: ByteString, flags: CInt, as caller: Caller
    ) async throws(FileFailure)
    func removeExtendedAttribute(_ path: ByteString, _ name: ByteString, as caller: Caller) async throws(FileFailure)
    /// fsync(2) of a directory.
    func synchronizeDirectory(_ path: ByteString) async throws(FileFailure)
}

/// Who asks, as the kernel tells a file system.
package struct Caller: Hashable, Sendable {
    package var uid, gid: UInt32
    package init(uid: UInt32, gid: UInt32) {
        self.uid = uid
        self.gid = gid
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
