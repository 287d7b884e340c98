import Coordination
import Glibc
import Platform
import SystemPackage

extension MountedFileSystem {
    private static let prefix: ByteString = "user.larder."
    private static let ownNames = ["version", "url", "cached", "tier", "inode", "coordinator", "mode"]
        .map { prefix + ByteString($0) }

    /// Of the namespaces that the kernel itself asks for at nearly every call.
    private static func isKernels(_ name: ByteString) -> Bool {
        name.hasPrefix("security.") || name.hasPrefix("system.") || name.hasPrefix("trusted.")
    }

    /// Whether some store of the volume keeps attributes of the kernel's namespaces.
    private var hasKernelAttributes: Bool { link.hasKernelAttributes }

    /// The value of an extended attribute. Those of the kernel's namespaces are ENODATA, without asking, when no store of
    /// the volume has any.
    package func extendedAttribute(_ name: ByteString, of inode: UInt64, answer: @escaping Answer<ByteString>) {
        if name.hasPrefix(Self.prefix) {
            guard Self.ownNames.contains(name) else { return answer(.failure(.noData)) }
            if name == "user.larder.coordinator" { return answer(.success(ByteString(link.socketPath))) }
            if name == "user.larder.mode" {
                return answer(.success(ByteString(openInodes.find(inode)?.mode ?? "closed")))
            }
        } else if Self.isKernels(name), !hasKernelAttributes {
            return answer(.failure(.noData))
        }
        var request = WireGetExtendedAttribute()
        request.inode = inode
        request.name = name.data
        link.request(.getExtendedAttribute(request)) { result in
            answer(
                result.answer { body in
                    guard case .extendedAttribute(let attribute) = body else { return nil }
                    return ByteString(attribute.value)
                })
        }
    }

    /// The names of an inode's extended attributes, without Larder's own: programs that copy attributes (cp, rsync, tar)
    /// would carry them to where they mean nothing.
    package func extendedAttributeNames(of inode: UInt64, answer: @escaping Answer<[ByteString]>) {
        var request = WireListExtendedAttributes()
        request.inode = inode
        link.request(.listExtendedAttributes(request)) { result in
            let listed: Result<[ByteString], Errno> = result.answer { body in
                guard case .extendedAttributeNames(let names) = body else { return nil }
                return names.names.map { ByteString($0) }
            }
            switch listed {
            case .success(let names):
                answer(.success(names.filter { !$0.hasPrefix(Self.prefix) }))
            // A store without any.
            case .failure(.notSupported): answer(.success([]))
            case .failure(let error): answer(.failure(error))
            }
        }
    }

    /// setxattr(2); EPERM for Larder's own names, ENOTSUP for the kernel's namespaces when no store has those.
    package func setExtendedAttribute(
        _ name: ByteString, to value: ByteString, of inode: UInt64, flags: Int32, caller: WireCaller,
        operation: UInt64? = nil, answer: @escaping Answer<Void>
    ) {
        if let refusal = refusal(of: name) { return answer(.failure(refusal)) }
        var request = WireSetExtendedAttribute()
        request.inode = inode
        request.name = name.data
        request.value = value.data
        request.flags = UInt32(bitPattern: flags)
        request.caller = caller
        knownDirectories.noteChange(in: inode)
        changeDone(.setExtendedAttribute(request), operation, answer: answer)
    }

    /// removexattr(2); refuses as `setExtendedAttribute`.
    package func removeExtendedAttribute(
        _ name: ByteString, of inode: UInt64, caller: WireCaller, operation: UInt64? = nil,
        answer: @escaping Answer<Void>
    ) {
        if let refusal = refusal(of: name) { return answer(.failure(refusal)) }
        var request = WireRemoveExtendedAttribute()
        request.inode = inode
        request.name = name.data
        request.caller = caller
        knownDirectories.noteChange(in: inode)
        changeDone(.removeExtendedAttribute(request), operation, answer: answer)
    }

    private func refusal(of name: ByteString) -> Errno? {
        if name.hasPrefix(Self.prefix) { return .notPermitted }
        return Self.isKernels(name) && !hasKernelAttributes ? .notSupported : nil
    }
}
