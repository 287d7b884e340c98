import Coordination
import Glibc
import Platform
import SystemPackage

extension MountedFileSystem {
    /// mknod(2); `mode` has the file type.
    package func makeNode(
        _ name: ByteString, in parent: UInt64, mode: UInt32, device: UInt64, caller: WireCaller,
        operation: UInt64? = nil, answer: @escaping Answer<WireAttributes>
    ) {
        var request = WireMakeNode()
        request.parent = parent
        request.name = name.data
        request.mode = mode
        request.device = device
        request.caller = caller
        make(name, in: parent, .makeNode(request), operation, answer: answer)
    }

    package func makeDirectory(
        _ name: ByteString, in parent: UInt64, mode: UInt32, caller: WireCaller,
        operation: UInt64? = nil, answer: @escaping Answer<WireAttributes>
    ) {
        var request = WireMakeDirectory()
        request.parent = parent
        request.name = name.data
        request.mode = mode
        request.caller = caller
        let (epoch, asked, generation) = (knownDirectories.epoch, MonotonicClock.now(), link.generation)
        make(name, in: parent, .makeDirectory(request), operation, answer: answer) { [self] entry, answered in
            guard entry.emptyMilliseconds > 0, answered == generation else { return }
            knownDirectories.begin(
                entry.attributes, until: asked + UInt64(entry.emptyMilliseconds) * 1_000_000, since: epoch)
        }
    }

    package func makeSymbolicLink(
        _ name: ByteString, in parent: UInt64, to target: ByteString, caller: WireCaller,
        operation: UInt64? = nil, answer: @escaping Answer<WireAttributes>
    ) {
        var request = WireMakeSymbolicLink()
        request.parent = parent
        request.name = name.data
        request.target = target.data
        request.caller = caller
        make(name, in: parent, .makeSymbolicLink(request), operation, answer: answer)
    }

    package func makeHardLink(
        to inode: UInt64, _ name: ByteString, in parent: UInt64, caller: WireCaller,
        operation: UInt64? = nil, answer: @escaping Answer<WireAttributes>
    ) {
        var request = WireMakeHardLink()
        request.inode = inode
        request.parent = parent
        request.name = name.data
        request.caller = caller
        make(name, in: parent, .makeHardLink(request), operation) { [self] result in
            namesEpoch.add(1, ordering: .releasing)
            answer(result)
        }
    }

    /// - Parameter made: is called before the answer with what was made, and the connection that said so.
    private func make(
        _ name: ByteString, in parent: UInt64, _ body: WireEnvelope.OneOf_Body, _ operation: UInt64?,
        answer: @escaping Answer<WireAttributes>, made: (@Sendable (WireEntry, UInt64) -> Void)? = nil
    ) {
        guard name.count <= 255 else { return answer(.failure(.fileNameTooLong)) }
        knownDirectories.note(name, in: parent)
        link.change(body, operation: operation) { result in
            if let made, case .success(let reply) = result, case .entry(let entry) = reply.body {
                made(entry, reply.generation)
            }
            answer(result.entry())
        }
    }

    /// unlink(2), or rmdir(2) with `directory`.
    package func remove(
        _ name: ByteString, in parent: UInt64, directory: Bool, caller: WireCaller, operation: UInt64? = nil,
        answer: @escaping Answer<Void>
    ) {
        var request = WireRemove()
        request.parent = parent
        request.name = name.data
        request.directory = directory
        request.caller = caller
        knownDirectories.noteChange(in: parent)
        if directory { knownDirectories.forgetAttributes() }
        changeNames(.remove(request), operation, answer: answer)
    }

    /// renameat2(2).
    package func rename(
        _ name: ByteString, in parent: UInt64, to newName: ByteString, in newParent: UInt64, flags: UInt32,
        caller: WireCaller, operation: UInt64? = nil, answer: @escaping Answer<Void>
    ) {
        guard newName.count <= 255 else { return answer(.failure(.fileNameTooLong)) }
        var request = WireRename()
        request.parent = parent
        request.name = name.data
        request.newParent = newParent
        request.newName = newName.data
        request.flags = flags
        request.caller = caller
        knownDirectories.forgetAttributes()
        knownDirectories.note(newName, in: newParent)
        // An exchange brings a name to the old place.
        knownDirectories.note(name, in: parent)
        changeNames(.rename(request), operation, answer: answer)
    }

    private func changeNames(
        _ body: WireEnvelope.OneOf_Body, _ operation: UInt64?, answer: @escaping Answer<Void>
    ) {
        changeDone(body, operation) { [self] result in
            namesEpoch.add(1, ordering: .releasing)
            answer(result)
        }
    }

    /// A change that is answered by Done.
    func changeDone(_ body: WireEnvelope.OneOf_Body, _ operation: UInt64?, answer: @escaping Answer<Void>) {
        link.change(body, operation: operation) { answer($0.done()) }
    }

    // MARK: Attributes

    /// chmod, chown, utimensat and truncate of `change.inode`, and what remains then.
    ///
    /// - Parameter file: a handle to the inode, when the caller has one: ftruncate(2) is done on its descriptor.
    package func setAttributes(
        _ change: WireSetAttributes, file: OpenFile?, operation: UInt64? = nil,
        answer: @escaping Answer<WireAttributes>
    ) {
        knownDirectories.noteChange(in: change.inode)
        if change.hasSize, let file, file.inode.writing != nil, file.inode.withPath({ $0.isRestored }) {
            return whenOpen(file.inode) { [self] error in
                if let error { return answer(.failure(error)) }
                setAttributes(change, file: file, operation: operation, answer: answer)
            }
        }
        guard change.hasSize, let file, let writing = file.inode.writing, let descriptor = writing.file else {
            return askToSetAttributes(change, file, operation, answer: answer)
        }
        if let error = writing.error { return answer(.failure(error)) }
        writing.noteWrite()
        do throws(Errno) {
            guard change.size <= UInt64(Int64.max) else { throw .fileTooLarge }
            try descriptor.resize(to: change.size)
        } catch { return answer(.failure(error)) }
        var rest = change
        rest.clearSize()
        if change.caller.uid != 0, !rest.hasMode, let mode = writing.modeAfterWrite { rest.mode = mode }
        guard rest.hasMode || rest.hasUid || rest.hasGid || rest.hasAccessed || rest.hasModified else {
            return attributes(of: change.inode, file: nil, answer: answer)
        }
        askToSetAttributes(rest, file, operation, answer: answer)
    }

    /// What the kernel asks for, before somebody without privileges writes, by a SETATTR of nothing.
    package func endPrivileges(of inode: UInt64, answer: @escaping Answer<WireAttributes>) {
        attributes(of: inode) { [self] result in
            guard case .success(let attributes) = result, let mode = attributes.modeWithoutPrivileges else {
                return answer(result)
            }
            link.workers.submit { [self] in
                setAttributes(WireSetAttributes(inode, mode: mode), file: nil, answer: answer)
            }
        }
    }

    private func askToSetAttributes(
        _ change: WireSetAttributes, _ file: OpenFile?, _ operation: UInt64?,
        answer: @escaping Answer<WireAttributes>
    ) {
        let inode = change.inode
        let epoch = namesEpoch.load(ordering: .acquiring)
        let finish: @Sendable (Result<WireAttributes, Errno>) -> Void = { [self] result in
            guard case .success(let attributes) = result, let writing = openInodes.find(inode)?.writing else {
                return answer(result)
            }
            writing.note(attributes, namesEpoch: epoch)
            answer(.success(shown(writing.lastKnown(), inode)))
        }
        guard change.hasSize, let file, file.inode.writing != nil else {
            return link.change(.setAttributes(change), operation: operation) { finish($0.entry()) }
        }
        // ftruncate(2) where the kernel alone has the file: the coordinator must see that the caller may write.
        request(
            for: file.inode,
            { lease in
                var change = change
                change.lease = lease
                return .setAttributes(change)
            }, operation: operation ?? link.nextOperation()
        ) { result in
            finish(result.mapError { CoordinationError($0, "") }.entry())
        }
    }
}

extension WireSetAttributes {
    init(_ inode: UInt64, mode: UInt32) {
        self.init()
        self.inode = inode
        self.mode = mode
    }
}

extension Result where Success == CoordinatorLink.Reply, Failure == CoordinationError {
    /// The answer to a request that is answered by an Entry that exists.
    func entry() -> Result<WireAttributes, Errno> {
        answer { body in
            guard case .entry(let entry) = body, entry.hasAttributes else { return nil }
            return entry.attributes
        }
    }
}
