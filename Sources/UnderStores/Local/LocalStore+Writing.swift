import Glibc
import Platform
import SystemPackage

extension LocalStore: FileWriting {
    package var fileWriting: (any FileWriting)? { self }

    // O_SYNC contains O_DSYNC. Glibc shows O_DIRECT and O_NOATIME only under _GNU_SOURCE.
    private static let openFlags = O_ACCMODE | O_TRUNC | O_APPEND | O_SYNC | Descriptor.direct | Descriptor.noAccessTime

    package func open(
        _ path: ByteString, flags: CInt, identity: ByteString?, as caller: Caller
    ) async throws(FileFailure) -> Descriptor {
        try await perform("open", path, as: caller) { [self] () throws(Errno) in
            // Looked at first: opening a device or pipe, or truncating a file that is not meant, has effects of its own.
            let file = try file(at: path)
            let status = try file.status()
            if status.isDirectory { throw .isDirectory }
            if status.isSymbolicLink { throw .tooManySymbolicLinkLevels }
            guard status.isRegularFile else { throw .noSuchAddressOrDevice }
            if let identity, fileIdentity(of: ObjectVersion(status)) != identity { throw .staleNFSFileHandle }
            return try file.reopen(flags & Self.openFlags)
        }
    }

    package func open(
        _ file: Descriptor, flags: CInt, as caller: Caller
    ) async throws(FileFailure) -> Descriptor {
        try await perform("open a file without a name in", "", as: caller) { () throws(Errno) in
            guard try file.status().isRegularFile else { throw .noSuchAddressOrDevice }
            return try file.reopen(flags & Self.openFlags)
        }
    }

    package func create(
        _ path: ByteString, flags: CInt, mode: UInt32, as caller: Caller
    ) async throws(FileFailure) -> (Descriptor, ObjectAttributes) {
        let made = try await performCreation("create", path, mode: mode, as: caller) { directory, name throws(Errno) in
            try directory.open(
                beneath: name, flags & Self.openFlags & ~O_TRUNC | O_CREAT | O_EXCL | O_NOFOLLOW,
                mode: mode & 0o7777)
        }
        return (made.result, made.attributes)
    }

    package func makeDirectory(
        _ path: ByteString, mode: UInt32, as caller: Caller
    ) async throws(FileFailure) -> ObjectAttributes {
        try await performCreation("make the directory", path, mode: mode, as: caller) { directory, name throws(Errno) in
            try directory.makeDirectory(name, mode: mode & 0o7777)
        }.attributes
    }

    package func makeNode(
        _ path: ByteString, mode: UInt32, device: UInt64, as caller: Caller
    ) async throws(FileFailure) -> ObjectAttributes {
        try await performCreation("make the node", path, mode: mode, as: caller) { directory, name throws(Errno) in
            try directory.makeNode(name, mode: mode, device: device)
        }.attributes
    }

    package func makeLink(
        _ path: ByteString, target: ByteString, as caller: Caller
    ) async throws(FileFailure) -> ObjectAttributes {
        try await performCreation("make the link", path, mode: nil, as: caller) { directory, name throws(Errno) in
            try directory.makeLink(name, target: target)
        }.attributes
    }

    package func makeHardLink(
        _ path: ByteString, to existing: ByteString, as caller: Caller
    ) async throws(FileFailure) -> ObjectAttributes {
        try await perform("link", path, as: caller) { [self] () throws(Errno) in
            let (source, sourceName) = try place(existing, ifRoot: .notPermitted)
            let (directory, name) = try place(path, ifRoot: .fileExists)
            try source.makeHardLink(of: sourceName, in: directory, as: name)
            return ObjectAttributes(try directory.status(of: name))
        }
    }

    package func remove(_ path: ByteString, as caller: Caller) async throws(FileFailure) {
        try await perform("remove", path, as: caller) { [self] () throws(Errno) in
            let (directory, name) = try place(path, ifRoot: .isDirectory)
            try directory.remove(name, isDirectory: false)
        }
    }

    package func removeDirectory(_ path: ByteString, as caller: Caller) async throws(FileFailure) {
        try await perform("remove the directory", path, as: caller) { [self] () throws(Errno) in
            let (directory, name) = try place(path, ifRoot: .resourceBusy)
            try directory.remove(name, isDirectory: true)
        }
    }

    package func rename(
        _ path: ByteString, to destination: ByteString, flags: UInt32, as caller: Caller
    ) async throws(FileFailure) {
        try await perform("rename to \(shown(destination))", path, as: caller) { [self] () throws(Errno) in
            guard flags & ~(Descriptor.renameNoReplace | Descriptor.renameExchange) == 0 else {
                throw .invalidArgument
            }
            let (source, name) = try place(path, ifRoot: .resourceBusy)
            let (directory, newName) = try place(destination, ifRoot: .resourceBusy)
            try source.rename(name, to: directory, newName, flags: flags)
        }
    }

    package func synchronizeDirectory(_ path: ByteString) async throws(FileFailure) {
        try await performUnasked("synchronize", path) { [self] () throws(Errno) in
            try openBeneath(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).synchronize()
        }
    }
}
