import Coordination
import Platform
import SystemPackage

extension MountedFileSystem {
    /// What a lookup found.
    package enum Found: Sendable {
        case entry(WireAttributes)
        /// There is no such name; the kernel may remember that for so long.
        case absent(milliseconds: UInt32)
    }

    /// The entry `name` (one component) of directory `parent`. Any thread.
    package func lookup(_ name: ByteString, in parent: UInt64, answer: @escaping Answer<Found>) {
        guard name.count <= 255 else { return answer(.failure(.fileNameTooLong)) }
        var request = WireLookup()
        request.parent = parent
        request.name = .init(name.bytes)
        link.request(.lookup(request)) { result in
            answer(
                result.answer { body in
                    guard case .entry(let entry) = body else { return nil }
                    return entry.hasAttributes
                        ? .entry(entry.attributes) : .absent(milliseconds: entry.negativeTtlMilliseconds)
                })
        }
    }

    /// The attributes of an inode. An open one that the coordinator has superseded keeps those it was opened with.
    package func attributes(of inode: UInt64, answer: @escaping Answer<WireAttributes>) {
        var request = WireGetAttributes()
        request.inode = inode
        link.request(.getAttributes(request)) { [self] result in
            let answered: Result<WireAttributes, Errno> = result.answer { body in
                guard case .entry(let entry) = body, entry.hasAttributes else { return nil }
                return entry.attributes
            }
            if case .failure = answered, let open = openInodes.find(inode) { return answer(.success(open.attributes)) }
            answer(answered)
        }
    }

    /// The target of a symbolic link.
    package func readLink(_ inode: UInt64, answer: @escaping Answer<ByteString>) {
        var request = WireReadLink()
        request.inode = inode
        link.request(.readLink(request)) { result in
            answer(
                result.answer { body in
                    guard case .linkTarget(let target) = body else { return nil }
                    return ByteString(target.target)
                })
        }
    }

    /// Space for statfs(2).
    package func space(of inode: UInt64, answer: @escaping Answer<WireSpace>) {
        var request = WireGetSpace()
        request.inode = inode
        link.request(.getSpace(request)) { result in
            answer(result.answer { if case .space(let space) = $0 { space } else { nil } })
        }
    }

    // MARK: Extended attributes

    private static let attributePrefix = "user.larder."

    /// What listxattr(2) shows for every inode.
    package static let extendedAttributeNames = ["version", "url", "cached", "tier", "inode", "coordinator", "mode"]
        .map { attributePrefix + $0 }

    /// The value of an extended attribute; ENODATA for names that are not Larder's, without asking.
    package func extendedAttribute(_ name: ByteString, of inode: UInt64, answer: @escaping Answer<ByteString>) {
        let name = name.description
        guard Self.extendedAttributeNames.contains(name) else { return answer(.failure(.noData)) }
        switch name.dropFirst(Self.attributePrefix.count) {
        case "coordinator": answer(.success(ByteString(link.socketPath)))
        case "mode": answer(.success(ByteString(openInodes.find(inode)?.mode ?? "closed")))
        default:
            var request = WireGetExtendedAttribute()
            request.inode = inode
            request.name = .init(ByteString(name).bytes)
            link.request(.getExtendedAttribute(request)) { result in
                answer(
                    result.answer { body in
                        guard case .extendedAttribute(let attribute) = body else { return nil }
                        return ByteString(attribute.value)
                    })
            }
        }
    }
}

extension Result where Success == CoordinatorLink.Reply, Failure == CoordinationError {
    /// The answer for the application; a reply of the wrong kind (nil) is EPROTO.
    func answer<Value>(_ take: (WireEnvelope.OneOf_Body) -> Value?) -> Result<Value, Errno> {
        switch self {
        case .success(let reply):
            if let value = take(reply.body) { .success(value) } else { .failure(.protocolError) }
        case .failure(let error): .failure(error.errno)
        }
    }
}
