import Platform
import SystemPackage

extension LocalStore {
    private static let ownAttributes: ByteString = "user.larder."
    private static let trustedAttributes: ByteString = "trusted."

    package func extendedAttribute(
        _ path: ByteString, _ name: ByteString, as caller: Caller
    ) async throws(FileFailure) -> ByteString {
        try await perform("get an extended attribute of", path, as: caller) { [self] () throws(Errno) in
            if name.hasPrefix(Self.ownAttributes) { throw .noData }
            let (file, link) = try attributed(path)
            return try file.extendedAttribute(name, link: link)
        }
    }

    package func extendedAttributes(
        _ path: ByteString, as caller: Caller
    ) async throws(FileFailure) -> [ByteString] {
        try await perform("list the extended attributes of", path, as: caller) { [self] () throws(Errno) in
            let (file, link) = try attributed(path)
            return try file.extendedAttributeNames(link: link).filter { name in
                !name.hasPrefix(Self.ownAttributes)
                    && (caller.uid == 0 || !name.hasPrefix(Self.trustedAttributes))
            }
        }
    }

    package func setExtendedAttribute(
        _ path: ByteString, _ name: ByteString, _ value: ByteString, flags: CInt, as caller: Caller
    ) async throws(FileFailure) {
        try await perform("set an extended attribute of", path, as: caller) { [self] () throws(Errno) in
            if name.hasPrefix(Self.ownAttributes) { throw .notPermitted }
            let (file, link) = try attributed(path)
            try file.setExtendedAttribute(name, to: value, flags: flags, link: link)
        }
    }

    package func removeExtendedAttribute(
        _ path: ByteString, _ name: ByteString, as caller: Caller
    ) async throws(FileFailure) {
        try await perform("remove an extended attribute of", path, as: caller) { [self] () throws(Errno) in
            if name.hasPrefix(Self.ownAttributes) { throw .notPermitted }
            let (file, link) = try attributed(path)
            try file.removeExtendedAttribute(name, link: link)
        }
    }

    /// What the attributes of `path` are asked of: the file itself, or of a symbolic link its directory and name.
    private func attributed(_ path: ByteString) throws(Errno) -> (file: Descriptor, link: ByteString?) {
        let file = try file(at: path)
        guard try file.status().isSymbolicLink else { return (file, nil) }
        let (directory, name) = try place(path, ifRoot: .noSuchFileOrDirectory)
        return (directory, name)
    }
}
