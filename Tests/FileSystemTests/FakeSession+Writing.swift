import CLinux
import Coordination
import Glibc
import Platform
import SystemPackage

extension FakeCoordinator.Script {
    /// The attributes of an inode with what was changed of it.
    func attributes(_ inode: UInt64) -> WireAttributes? {
        guard var attributes = tree.attributes(inode, ttl: ttlMilliseconds) else { return nil }
        if let mode = writing.modes[inode] { attributes.mode = attributes.mode & S_IFMT | mode }
        if let (uid, gid) = writing.owners[inode] { (attributes.uid, attributes.gid) = (uid, gid) }
        if let modified = writing.modified[inode] {
            attributes.modifiedSeconds = modified.seconds
            attributes.modifiedNanoseconds = modified.nanoseconds
        }
        if let status = try? writing.staged[inode]?.file.status() {
            attributes.size = status.size
            attributes.blocks = status.blocks
        } else if case .file(let file) = tree.nodes[inode]?.content,
            file.grant == .source || file.grant == .passthrough,
            let status = try? file.cache.status()
        {
            attributes.size = status.size
            // What is told of a file in place is what the file says of itself.
            fchmod(file.cache.raw, attributes.mode & 0o7777)
        }
        return attributes
    }
}

extension FakeSession {
    /// Opens for writing, and opens of what somebody writes. False: any other open.
    func answerWriting(_ open: WireOpen, _ id: UInt64, _ owner: FakeCoordinator) throws -> Bool {
        let flags = Int32(bitPattern: open.flags)
        let writes = flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0
        let (known, keeps, failure) = owner.script.withLock { script in
            (script.writing.staged[open.inode], script.writing.keepsStaged, script.writing.failures["open"])
        }
        if writes, let failure { throw failure }
        if open.staged != 0 { owner.log.withLock { $0.presented.append(open.staged) } }
        if open.staged != 0, !keeps || known?.number != open.staged { throw Errno.staleNFSFileHandle }
        guard writes || known != nil else { return false }
        let (opened, descriptors) = try grant(open.inode, flags, passthrough: open.passthrough, owner)
        session.reply(to: id, .opened(opened), descriptors: descriptors)
        return true
    }

    private func grant(
        _ inode: UInt64, _ flags: Int32, passthrough: Bool, _ owner: FakeCoordinator
    ) throws -> (WireOpened, [Descriptor]) {
        var opened = WireOpened()
        let (grant, content) = owner.script.withLock { ($0.writing.grant, $0.tree.nodes[inode]?.content) }
        guard case .file(let file) = content else { throw Errno.isDirectory }
        let target: Descriptor
        var backing: Int32?
        switch grant {
        case .staged(let direct, let room):
            let staged = try stage(inode, file, owner)
            target = staged.file
            opened.staged.number = staged.number
            opened.staged.direct = direct
            opened.staged.room = room
        case .stagedBacking:
            let staged = try stage(inode, file, owner)
            target = staged.file
            opened.staged.number = staged.number
            opened.staged.room = 1 << 40
            let (device, agreed) = state.withLock { ($0.device, $0.passthrough) }
            if passthrough, agreed, flags & (O_ACCMODE | O_TRUNC) != O_RDONLY, let device,
                !hasBacking(inode)
            {
                let number = try register(inode, target, device)
                backing = number
                opened.staged.backingID = number
            }
        case .source:
            target = file.cache
            opened.source = .init()
        case .passthrough:
            target = file.cache
            opened.source = .init()
            let (device, agreed) = state.withLock { ($0.device, $0.passthrough) }
            if passthrough, agreed, let device {
                let number = try register(inode, target, device)
                backing = number
                opened.backingID = number
            }
        }
        if flags & O_TRUNC != 0 { try target.resize(to: 0) }
        let lease = state.withLock { state in
            defer { state.nextLease += 1 }
            state.leases[state.nextLease] = Lease(inode: inode, backing: backing, writes: true)
            return state.nextLease
        }
        opened.lease = lease
        opened.keepCache = true
        opened.attributes = owner.script.withLock { $0.attributes(inode) } ?? .init()
        opened.attributes.inode = inode
        return (opened, [target])
    }

    private func stage(_ inode: UInt64, _ file: FakeFile, _ owner: FakeCoordinator) throws -> FakeWriting.Staged {
        if let known = owner.script.withLock({ $0.writing.staged[inode] }) {
            owner.script.withLock { $0.writing.staged[inode]?.leases += 1 }
            return known
        }
        let number = owner.script.withLock { script in
            defer { script.writing.nextStaged += 1 }
            return script.writing.nextStaged
        }
        let descriptor = try Descriptor.open("\(owner.directory)/staged-\(number)", O_RDWR | O_CREAT, mode: 0o644)
        try file.bytes.withUnsafeBytes { try descriptor.write($0, at: 0) }
        let staged = FakeWriting.Staged(number: number, inode: inode, file: descriptor, leases: 1)
        owner.script.withLock { $0.writing.staged[inode] = staged }
        return staged
    }

    /// What a lease leaves behind.
    func endWriting(_ lease: Lease, _ release: WireRelease, _ owner: FakeCoordinator) throws {
        guard lease.writes, let staged = owner.script.withLock({ $0.writing.staged[lease.inode] }) else { return }
        if release.written { try commit(staged, owner) }
        try owner.script.withLock { script in
            script.writing.staged[lease.inode]?.leases -= 1
            guard script.writing.staged[lease.inode]?.leases == 0 else { return }
            script.writing.staged[lease.inode] = nil
            let bytes = try staged.file.contents()
            let path = "\(owner.directory)/committed-\(staged.number)"
            script.tree.nodes[lease.inode]?.content = .file(try FakeFile(bytes, .whole, blockSize: 4096, path: path))
        }
    }

    private func commit(_ staged: FakeWriting.Staged, _ owner: FakeCoordinator) throws {
        let bytes = try staged.file.contents()
        owner.script.withLock { $0.writing.committed[staged.inode] = bytes }
    }

    // MARK: Changes

    /// Answers what changes something. False: something else.
    func answerChange(
        _ body: WireEnvelope.OneOf_Body, _ id: UInt64, _ operation: UInt64, _ owner: FakeCoordinator
    ) throws -> Bool {
        guard let name = body.changeName else { return false }
        owner.log.withLock { $0.changes.append((name, operation)) }
        let key = "\(state.withLock { $0.client }) \(operation)"
        let (failure, known, isSilent) = owner.script.withLock { script in
            (
                script.writing.failures[name], operation == 0 ? nil : script.writing.done[key],
                script.writing.unanswered.remove(name) != nil
            )
        }
        if let known {
            session.reply(to: id, known)
            return true
        }
        if let failure { throw failure }
        guard let (reply, descriptors) = try change(body, id, operation, owner) else { return true }
        if operation != 0, descriptors.isEmpty { owner.script.withLock { $0.writing.done[key] = reply } }
        if !isSilent { session.reply(to: id, reply, descriptors: descriptors) }
        return true
    }

    private func change(
        _ body: WireEnvelope.OneOf_Body, _ id: UInt64, _ operation: UInt64, _ owner: FakeCoordinator
    ) throws -> (WireEnvelope.OneOf_Body, [Descriptor])? {
        let done = WireEnvelope.OneOf_Body.done(.init())
        switch body {
        case .create(let request):
            owner.log.withLock { $0.callers.append(("create", request.caller.uid, request.caller.gid)) }
            let (inode, _) = try owner.addNew(ByteString(request.name), in: request.parent)
            owner.script.withLock { $0.writing.modes[inode] = request.mode & 0o7777 }
            let flags = Int32(bitPattern: request.flags)
            let (opened, descriptors) = try grant(inode, flags, passthrough: request.passthrough, owner)
            var created = WireCreated()
            created.entry = try owner.entry(inode)
            created.opened = opened
            return (.created(created), descriptors)
        case .makeNode(let request):
            let name = ByteString(request.name)
            let inode =
                request.mode & S_IFMT == S_IFREG
                ? try owner.addNew(name, in: request.parent).inode
                : try owner.addNew(name, .node(mode: request.mode), in: request.parent)
            return (.entry(try owner.entry(inode)), [])
        case .makeDirectory(let request):
            owner.log.withLock { $0.callers.append(("makeDirectory", request.caller.uid, request.caller.gid)) }
            let inode = try owner.addNew(ByteString(request.name), .directory, in: request.parent)
            owner.script.withLock { $0.writing.modes[inode] = request.mode & 0o7777 }
            return (.entry(try owner.entry(inode)), [])
        case .makeSymbolicLink(let request):
            let target = ByteString(request.target).description
            let inode = try owner.addNew(ByteString(request.name), .link(target), in: request.parent)
            return (.entry(try owner.entry(inode)), [])
        case .makeHardLink(let request):
            owner.script.withLock { script in
                script.tree.children[request.parent, default: [:]][ByteString(request.name)] = request.inode
                script.tree.moreLinks[request.inode, default: 0] += 1
            }
            return (.entry(try owner.entry(request.inode)), [])
        case .remove(let request):
            try owner.remove(ByteString(request.name), in: request.parent, directory: request.directory)
            return (done, [])
        case .rename(let request):
            try owner.rename(request)
            return (done, [])
        case .setAttributes(let request):
            try owner.set(request)
            return (.entry(try owner.entry(request.inode)), [])
        case .setExtendedAttribute(let request):
            owner.script.withLock {
                $0.writing.attributes[request.inode, default: [:]][ByteString(request.name)] = ByteString(request.value)
            }
            return (done, [])
        case .removeExtendedAttribute(let request):
            let old = owner.script.withLock {
                $0.writing.attributes[request.inode]?.removeValue(forKey: ByteString(request.name))
            }
            guard old != nil else { throw Errno.noData }
            return (done, [])
        case .listExtendedAttributes(let request):
            var names = WireExtendedAttributeNames()
            names.names = owner.script.withLock {
                $0.writing.attributes[request.inode]?.keys.sorted().map(\.data) ?? []
            }
            return (.extendedAttributeNames(names), [])
        case .synchronizeDirectory: return (done, [])
        case .commit(let request): return (try answer(request, owner), [])
        case .reserve(let request):
            owner.log.withLock { $0.reserved.append(request.bytes) }
            _ = owner.script.withLock { $0.writing.reserveGate }?.wait()
            if let failure = owner.script.withLock({ $0.writing.failures["reserve late"] }) { throw failure }
            return (done, [])
        case .copyRange: throw Errno.notSupported
        default:
            try answerLock(body, id, operation, owner)
            return nil
        }
    }

    private func answer(_ request: WireCommit, _ owner: FakeCoordinator) throws -> WireEnvelope.OneOf_Body {
        guard let lease = state.withLock({ $0.leases[request.lease] }) else { throw Errno.badFileDescriptor }
        owner.log.withLock { $0.commits.append((lease.inode, request.synchronize, request.written)) }
        let (gate, staged) = owner.script.withLock { ($0.writing.commitGate, $0.writing.staged[lease.inode]) }
        _ = gate?.wait()
        if let staged { try commit(staged, owner) }
        var committed = WireCommitted()
        if let attributes = owner.script.withLock({ $0.attributes(lease.inode) }) { committed.attributes = attributes }
        return .committed(committed)
    }
}

extension WireEnvelope.OneOf_Body {
    /// How the tests name what changes something or belongs to writing.
    var changeName: String? {
        switch self {
        case .create: "create"
        case .makeNode: "makeNode"
        case .makeDirectory: "makeDirectory"
        case .makeSymbolicLink: "makeSymbolicLink"
        case .makeHardLink: "makeHardLink"
        case .remove: "remove"
        case .rename: "rename"
        case .setAttributes: "setAttributes"
        case .setExtendedAttribute: "setExtendedAttribute"
        case .removeExtendedAttribute: "removeExtendedAttribute"
        case .listExtendedAttributes: "listExtendedAttributes"
        case .synchronizeDirectory: "synchronizeDirectory"
        case .commit: "commit"
        case .reserve: "reserve"
        case .copyRange: "copyRange"
        case .getLock: "getLock"
        case .setLock: "setLock"
        case .cancelLock: "cancelLock"
        default: nil
        }
    }
}
