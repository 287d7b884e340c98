import Glibc
import Platform
import SystemPackage

extension LocalStore {
    /// What a call does, which decides with whose rights it is made.
    private enum Effect {
        /// A new inode, which must belong to the caller from its first moment.
        case creation
        /// Setting the mode of the new inode.
        case correction
        case other
    }

    /// Runs a blocking call on the store's threads for `caller`, and turns its errno into a failure.
    func perform<Result: Sendable>(
        _ action: String, _ path: ByteString, as caller: Caller,
        _ body: @escaping @Sendable () throws(Errno) -> Result
    ) async throws(FileFailure) -> Result {
        try await pool.run { [self] () throws(FileFailure) in
            do throws(Errno) {
                return try run(.other, as: caller, body)
            } catch {
                throw failure(action, path, error)
            }
        }
    }

    private func failure(_ action: String, _ path: ByteString, _ error: Errno) -> FileFailure {
        FileFailure(error.rawValue, "cannot \(action) \(shown(path)): \(error)")
    }

    /// Makes a new entry of the directory that holds `path`, owned by `caller`.
    ///
    /// - Parameters:
    ///   - mode: as asked for; nil for a link, which has none.
    ///   - make: makes the entry of this name.
    func performCreation<Result: Sendable>(
        _ action: String, _ path: ByteString, mode: UInt32?, as caller: Caller,
        _ make: @escaping @Sendable (_ directory: Descriptor, _ name: ByteString) throws(Errno) -> Result
    ) async throws(FileFailure) -> (result: Result, attributes: ObjectAttributes) {
        try await pool.run { [self] () throws(FileFailure) in
            do throws(Errno) {
                let (directory, name, result) = try run(.creation, as: caller) { () throws(Errno) in
                    let (directory, name) = try place(path, ifRoot: .fileExists)
                    return (directory, name, try make(directory, name))
                }
                // An opened file may have lost its name again already.
                let file = result as? Descriptor
                var status: FileStatus
                if let file { status = try file.status() } else { status = try directory.status(of: name) }
                if let mode, status.mode & 0o777 != mode & 0o777, !hasDefaultACL(directory) {
                    status = try run(.correction, as: caller) { () throws(Errno) in
                        if let file { return try setMode(mode, of: file) }
                        return try setMode(
                            mode, of: try directory.open(beneath: name, Descriptor.pathOnly | O_NOFOLLOW))
                    }
                }
                return (result, ObjectAttributes(status))
            } catch {
                throw failure(action, path, error)
            }
        }
    }

    /// Gives a new entry the mode that was asked for. The umask is the process's, not the caller's (whose kernel has
    /// applied it); changing it would change it for every thread.
    ///
    /// Done as the caller: should the name be another file's by now, the kernel refuses to change any but the caller's.
    private func setMode(_ mode: UInt32, of file: Descriptor) throws(Errno) -> FileStatus {
        try file.setPermissions(try file.status().mode & 0o7000 | mode & 0o777)
        return try file.status()
    }

    /// Where a directory has one, the kernel applies no umask, and the mode is what the ACL made of it (acl(5)).
    private func hasDefaultACL(_ directory: Descriptor) -> Bool {
        (try? directory.extendedAttribute("system.posix_acl_default")) != nil
    }

    /// Runs a blocking call that nobody asked for, with the process's own rights.
    func performUnasked<Result: Sendable>(
        _ action: String, _ path: ByteString, _ body: @escaping @Sendable () throws(Errno) -> Result
    ) async throws(FileFailure) -> Result {
        try await perform(action, path, as: Caller(uid: 0, gid: 0, isChecked: true), body)
    }

    private func run<Result>(
        _ effect: Effect, as caller: Caller, _ body: () throws(Errno) -> Result
    ) throws(Errno) -> Result {
        guard canActForOthers, !(caller.isChecked && effect == .other) else { return try body() }
        if caller.uid == 0 {
            return try ThreadIdentity.with(uid: 0, gid: caller.gid, keeping: .all, body)
        }
        // The kernel itself then gives the new inode its owner, its group (set-group-ID directories), its set-ID bits and
        // the ACL it inherits, in one step. No capability is kept with which the caller could do more than create.
        var kept: ThreadIdentity.Capabilities =
            caller.isChecked ? [.overrideAccess, .searchAnywhere, .keepSetID, .makeDevices] : []
        // Without it chmod(2) would take the set-group-ID bit that the entry has from its directory.
        if effect == .correction { kept.insert(.keepSetID) }
        return try ThreadIdentity.with(uid: caller.uid, gid: caller.gid, keeping: kept, body)
    }
}

extension LocalStore {
    private static let longestPath = Int(PATH_MAX) - 1

    /// openat2(2) beneath the root, of a path of any length.
    func openBeneath(_ path: ByteString, _ flags: CInt) throws(Errno) -> Descriptor {
        var directory = root
        var rest = path.bytes[...]
        while rest.count > Self.longestPath {
            guard let slash = rest.prefix(Self.longestPath).lastIndex(of: UInt8(ascii: "/")) else {
                throw .fileNameTooLong
            }
            let piece = ByteString(rest[..<slash])
            directory = try directory.open(beneath: piece, Descriptor.pathOnly | O_DIRECTORY | O_NOFOLLOW)
            rest = rest[(slash + 1)...]
        }
        return try directory.open(beneath: ByteString(rest), flags)
    }

    /// The directory that holds the last name of a path, for the calls that change it.
    ///
    /// - Parameter rootError: what is thrown for the root, which has no name.
    func place(
        _ path: ByteString, ifRoot rootError: Errno
    ) throws(Errno) -> (directory: Descriptor, name: ByteString) {
        if path.isEmpty { throw rootError }
        try requirePlain(path)
        let slash = UInt8(ascii: "/")
        let end = path.bytes.lastIndex(of: slash)
        let directory = try openBeneath(
            ByteString(path.bytes[..<(end ?? 0)]), Descriptor.pathOnly | O_DIRECTORY | O_NOFOLLOW)
        return (directory, ByteString(path.bytes[(end.map { $0 + 1 } ?? 0)...]))
    }

    /// The file or link itself, without opening it.
    func file(at path: ByteString) throws(Errno) -> Descriptor {
        try requirePlain(path)
        return try openBeneath(path, Descriptor.pathOnly | O_NOFOLLOW)
    }

    // A name that is too long is the kernel's to refuse: what is wrong with the path before it comes first.
    private func requirePlain(_ path: ByteString) throws(Errno) {
        if path.isEmpty { return }
        let parts = path.bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let arePlain = parts.map { ByteString($0) }.allSatisfy { part in
            !part.isEmpty && part != "." && part != ".." && !part.bytes.contains(0)
        }
        guard arePlain else { throw .noSuchFileOrDirectory }
    }
}
