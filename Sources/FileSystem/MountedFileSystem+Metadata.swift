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

    /// Whether this mount knows by itself that a directory has no entry `name`. Any thread.
    package func isAbsent(_ name: ByteString, in parent: UInt64) -> Bool {
        name.count <= 255 && knownDirectories.isAbsent(name, in: parent)
    }

    /// The entry `name` (one component) of directory `parent`. Any thread.
    package func lookup(_ name: ByteString, in parent: UInt64, answer: @escaping Answer<Found>) {
        guard name.count <= 255 else { return answer(.failure(.fileNameTooLong)) }
        var request = WireLookup()
        request.parent = parent
        request.name = .init(name.bytes)
        link.request(.lookup(request)) { [self] result in
            answer(
                result.answer { body in
                    guard case .entry(let entry) = body else { return nil }
                    return entry.hasAttributes
                        ? .entry(current(entry.attributes)) : .absent(milliseconds: entry.negativeTtlMilliseconds)
                })
        }
    }

    /// What the coordinator says of an inode, with the size and times that it has got by writes through this mount, of
    /// which the coordinator has not heard yet.
    package func current(_ attributes: WireAttributes) -> WireAttributes {
        guard let writing = openInodes.find(attributes.inode)?.writing else { return attributes }
        let epoch = namesEpoch.load(ordering: .acquiring)
        return shown(writing.current(attributes, namesEpoch: epoch), attributes.inode)
    }

    /// The attributes of an inode. An open one that the coordinator has superseded keeps those it was opened with.
    ///
    /// - Parameter file: a handle to it, when the caller has one: it may show an older version than the inode has now.
    package func attributes(of inode: UInt64, file: OpenFile? = nil, answer: @escaping Answer<WireAttributes>) {
        if let file, let old = ownVersion(file) { return answer(.success(old)) }
        if let known = knownDirectories.attributes(of: inode) { return answer(.success(known)) }
        let epoch = namesEpoch.load(ordering: .acquiring)
        let writing = openInodes.find(inode)?.writing
        if let known = writing?.current(namesEpoch: epoch) { return answer(.success(shown(known, inode))) }
        var request = WireGetAttributes()
        request.inode = inode
        link.request(.getAttributes(request)) { [self] result in
            let answered: Result<WireAttributes, Errno> = result.answer { body in
                guard case .entry(let entry) = body, entry.hasAttributes else { return nil }
                return entry.attributes
            }
            switch answered {
            case .success(let attributes):
                writing?.note(attributes, namesEpoch: epoch)
                answer(.success(writing.map { shown($0.lastKnown(), inode) } ?? attributes))
            case .failure(let error):
                guard let open = openInodes.find(inode) else { return answer(.failure(error)) }
                // Open, but no longer the coordinator's: its name is gone, or belongs to a newer version.
                let isGone = error == .staleNFSFileHandle || error == .noSuchFileOrDirectory
                if isGone { open.writing?.noteUnlinked() }
                var attributes = open.writing?.lastKnown() ?? open.attributes
                if isGone { attributes.links = 0 }
                answer(.success(shown(attributes, inode)))
            }
        }
    }

    /// What a reader sees who opened the inode before somebody began to write it. The kernel asks so when it reads.
    private func ownVersion(_ file: OpenFile) -> WireAttributes? {
        guard file.inode.access == .reading, file.inode.isRetired else { return nil }
        var attributes = file.inode.attributes
        attributes.ttlMilliseconds = 0
        return attributes
    }

    /// How long the kernel may keep attributes of what is being written here.
    func shown(_ attributes: WireAttributes, _ inode: UInt64) -> WireAttributes {
        var attributes = attributes
        // The kernel follows its own writes; what others do it must ask for.
        let isShared = openInodes.isMixed(inode) || openInodes.find(inode)?.kernelMode == .direct
        attributes.ttlMilliseconds = isShared ? 0 : min(attributes.ttlMilliseconds, 1000)
        return attributes
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
