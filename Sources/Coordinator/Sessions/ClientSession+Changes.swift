import Coordination
import Glibc
import Platform
import SystemPackage
import UnderStores

extension ClientSession {
    /// Does a change once, however often it is sent, and answers what it answered the first time.
    func change(
        _ body: WireEnvelope.OneOf_Body, id: UInt64, operation: UInt64
    ) async throws(CoordinationError) {
        let directories = Self.directories(of: body)
        busy.enter(directories)
        defer { busy.leave(directories) }
        let client = state.withLock { $0.client }
        guard operation != 0, client.count == 16 else {
            let answer = try await change(body)
            await services.sessions.settleChange(in: directories, from: self)
            reply(answer, to: id)
            return
        }
        let key = OperationLog.Key(client: client, operation: operation)
        let answer: Answer
        if case .create(let request) = body {
            answer = try await create(request, once: key)
        } else {
            answer = try await services.operations.once(key) { () async throws(CoordinationError) in
                try await self.change(body, as: key)
            }
        }
        await services.sessions.settleChange(in: directories, from: self)
        reply(answer, to: id)
    }

    /// The directories whose locks the kernel holds while it waits for the answer.
    private static func directories(of body: WireEnvelope.OneOf_Body) -> Set<UInt64> {
        switch body {
        case .create(let request): [request.parent]
        case .makeNode(let request): [request.parent]
        case .makeDirectory(let request): [request.parent]
        case .makeSymbolicLink(let request): [request.parent]
        case .makeHardLink(let request): [request.parent]
        case .remove(let request): [request.parent]
        case .rename(let request): [request.parent, request.newParent]
        default: []
        }
    }

    /// A lease means nothing to another session, so a creation is remembered by its inode, which is then opened again.
    private func create(
        _ request: WireCreate, once key: OperationLog.Key
    ) async throws(CoordinationError) -> Answer {
        if let known = try services.operations.recall(key), case .entry(let entry) = known.body {
            var open = LeaseService.Open(
                inode: entry.attributes.inode,
                flags: CInt(truncatingIfNeeded: request.flags) & ~(O_TRUNC | O_ACCMODE) | O_RDWR,
                origin: origin(request.caller))
            open.device = device(request.passthrough)
            let grant: LeaseService.Grant
            do throws(CoordinationError) { grant = try await services.leases.open(open, into: leases) } catch {
                // Its coordinator was killed before the index had the inode: the successor gave it another.
                guard error.errno == .staleNFSFileHandle,
                    case .inode(let inode, _) = try await services.namespace.lookup(
                        parent: request.parent, name: ByteString(request.name))
                else { throw error }
                open.inode = inode
                grant = try await services.leases.open(open, into: leases)
            }
            var created = WireCreated()
            created.opened = grant.opened
            created.entry.attributes = grant.opened.attributes
            return Answer(body: .created(created), descriptors: grant.descriptors)
        }
        let answer: Answer
        do throws(CoordinationError) { answer = try await create(request, as: key) } catch {
            services.operations.noteRefusal(of: key)
            throw error
        }
        // A staged file has it noted with its record.
        if case .created(let created) = answer.body, !created.opened.staged.isNew {
            services.operations.note(.entry(created.entry), key)
        }
        return answer
    }

    private func reply(_ answer: Answer, to id: UInt64) {
        let isDelivered = session.reply(to: id, answer.body, descriptors: answer.descriptors)
        if !isDelivered, case .created(let created) = answer.body { leases.release(created.opened.lease) }
    }

    struct Answer: Sendable {
        var body: WireEnvelope.OneOf_Body
        var descriptors: [Descriptor] = []
    }

    private func origin(_ caller: WireCaller, _ operation: OperationLog.Key? = nil) -> ChangeService.Origin {
        // The kernel has checked the caller (default_permissions), and a mount process of root or of this user is
        // believed; others are not served at all.
        ChangeService.Origin(
            session: number, caller: Caller(uid: caller.uid, gid: caller.gid, isChecked: true), operation: operation)
    }

    private func change(
        _ body: WireEnvelope.OneOf_Body, as operation: OperationLog.Key? = nil
    ) async throws(CoordinationError) -> Answer {
        let changes = services.changes
        switch body {
        case .create(let request): return try await create(request)
        case .makeNode(let request):
            _ = try visible(request.parent)
            return entry(
                try await changes.makeNode(
                    request.parent, ByteString(request.name), mode: request.mode, device: request.device,
                    origin(request.caller, operation)))
        case .makeDirectory(let request):
            _ = try visible(request.parent)
            let made = try await changes.makeDirectory(
                request.parent, ByteString(request.name), mode: request.mode, origin(request.caller, operation))
            var entry = WireEntry()
            entry.attributes = services.namespace.attributes(made.inode, made.record)
            // A directory that an earlier attempt made may have got entries of others since.
            if services.namespace.index.children(of: made.inode, after: nil, limit: 1).isEmpty {
                entry.emptyMilliseconds = WireAttributes.milliseconds(
                    until: made.record.listedUntil, now: MonotonicClock.now())
            }
            return Answer(body: .entry(entry))
        case .makeSymbolicLink(let request):
            _ = try visible(request.parent)
            return entry(
                try await changes.makeLink(
                    request.parent, ByteString(request.name), target: ByteString(request.target),
                    origin(request.caller, operation)))
        case .makeHardLink(let request):
            _ = try visible(request.parent)
            _ = try visible(request.inode)
            return entry(
                try await changes.makeHardLink(
                    to: request.inode, request.parent, ByteString(request.name), origin(request.caller, operation)))
        case .remove(let request):
            _ = try visible(request.parent)
            if request.directory {
                try await changes.removeDirectory(
                    request.parent, ByteString(request.name), origin(request.caller, operation))
            } else {
                try await changes.removeFile(
                    request.parent, ByteString(request.name), origin(request.caller, operation))
            }
            return Answer(body: .done(.init()))
        case .rename(let request):
            _ = try visible(request.parent)
            _ = try visible(request.newParent)
            try await changes.rename(
                request.parent, ByteString(request.name), to: request.newParent, ByteString(request.newName),
                flags: request.flags, origin(request.caller, operation))
            return Answer(body: .done(.init()))
        case .setAttributes(let request):
            if let nameless = await visibleNameless(request.inode) {
                return entry(
                    try await changes.changeNameless(
                        request.inode, nameless, request.change, origin(request.caller, operation)))
            }
            _ = try visible(request.inode)
            return entry(try await changes.change(request.inode, request.change, origin(request.caller, operation)))
        case .setExtendedAttribute(let request):
            _ = try visible(request.inode)
            try await changes.setExtendedAttribute(
                request.inode, ByteString(request.name), ByteString(request.value),
                flags: CInt(truncatingIfNeeded: request.flags), origin(request.caller, operation))
            return Answer(body: .done(.init()))
        case .removeExtendedAttribute(let request):
            _ = try visible(request.inode)
            try await changes.setExtendedAttribute(
                request.inode, ByteString(request.name), nil, flags: 0, origin(request.caller, operation))
            return Answer(body: .done(.init()))
        default: throw CoordinationError(.notSupported, "the coordinator does not take this message")
        }
    }

    private func entry(_ result: ChangeService.Result) -> Answer {
        var entry = WireEntry()
        entry.attributes = services.namespace.attributes(result.inode, result.record)
        return Answer(body: .entry(entry))
    }

    private func create(
        _ request: WireCreate, as operation: OperationLog.Key? = nil
    ) async throws(CoordinationError) -> Answer {
        _ = try visible(request.parent)
        let origin = origin(request.caller, operation)
        let flags = CInt(truncatingIfNeeded: request.flags)
        let grant: LeaseService.Grant
        do throws(CoordinationError) {
            let created = try await services.changes.create(
                request.parent, ByteString(request.name), mode: request.mode, flags: flags, origin)
            // A new file is open for writing even to who only reads it: it does not exist without its commit.
            var open = LeaseService.Open(
                inode: created.inode, flags: flags & ~(O_TRUNC | O_ACCMODE) | O_RDWR, origin: origin)
            open.device = device(request.passthrough)
            grant = try services.leases.grant(created, open, leases)
        } catch {
            // Somebody else was faster: then it is an open of what is there.
            guard error.errno == .fileExists, flags & O_EXCL == 0,
                case .inode(let found, _) = try await services.namespace.lookup(
                    parent: request.parent, name: ByteString(request.name))
            else { throw error }
            var open = LeaseService.Open(inode: found, flags: flags, origin: origin)
            open.device = device(request.passthrough)
            grant = try await services.leases.open(open, into: leases)
        }
        var created = WireCreated()
        created.opened = grant.opened
        created.entry.attributes = grant.opened.attributes
        if request.tellsParent, let parent = services.namespace.index.record(request.parent) {
            created.parent = services.namespace.attributes(request.parent, parent)
        }
        return Answer(body: .created(created), descriptors: grant.descriptors)
    }

    func device(_ isWanted: Bool) -> Descriptor? {
        state.withLock { $0.hasPassthrough && isWanted ? $0.device : nil }
    }

    // MARK: Locks

    func lock(_ request: WireGetLock, _ id: UInt64) throws(CoordinationError) {
        _ = try visible(request.inode)
        var state = WireLockState()
        state.lock = try services.locks.conflict(request.inode, request.lock, session: number) ?? WireFileLock()
        session.reply(to: id, .lockState(state))
    }

    func lock(_ request: WireSetLock, _ id: UInt64, _ operation: UInt64) async throws(CoordinationError) {
        // A file that was removed while it is open can be locked by who has it open.
        if !leases.all().contains(where: { $0.inode == request.inode }) { _ = try visible(request.inode) }
        if request.closing {
            services.locks.noteClosing(request.inode, request.lock, session: number)
            session.reply(to: id, .done(.init()))
            return
        }
        try await services.locks.set(
            request.inode, request.lock, waits: request.wait, session: number, operation: operation)
        session.reply(to: id, .done(.init()))
    }

    // MARK: Content

    func commit(_ request: WireCommit, _ id: UInt64) async throws(CoordinationError) {
        guard let lease = leases[request.lease] else {
            throw CoordinationError(.badFileDescriptor, "the lease has ended")
        }
        var committed = WireCommitted()
        committed.attributes = try await services.leases.commit(
            lease, synchronize: request.synchronize, written: request.written,
            ChangeService.Origin(session: number, caller: Caller(uid: 0, gid: 0)))
        await services.sessions.settleChange(in: [], from: self)
        session.reply(to: id, .committed(committed))
    }

    func reserve(_ request: WireReserve, _ id: UInt64) async throws(CoordinationError) {
        guard let lease = leases[request.lease] else {
            throw CoordinationError(.badFileDescriptor, "the lease has ended")
        }
        try await services.leases.reserve(lease, bytes: request.bytes)
        session.reply(to: id, .done(.init()))
    }

    func listExtendedAttributes(
        _ request: WireListExtendedAttributes, _ id: UInt64
    ) async throws(CoordinationError) {
        _ = try visible(request.inode)
        var names = WireExtendedAttributeNames()
        names.names = try await services.changes.extendedAttributes(
            request.inode, Caller(uid: 0, gid: 0, isChecked: true)
        ).map(\.data)
        session.reply(to: id, .extendedAttributeNames(names))
    }

    func synchronizeDirectory(
        _ request: WireSynchronizeDirectory, _ id: UInt64
    ) async throws(CoordinationError) {
        let record = try visible(request.inode)
        if let mount = try services.namespace.mountPoint(of: record), let files = mount.store.fileWriting {
            let path = try services.namespace.storePath(of: record)
            try await services.changes.filing {
                () async throws(FileFailure) in try await files.synchronizeDirectory(path)
            }
        }
        session.reply(to: id, .done(.init()))
    }
}

extension WireSetAttributes {
    fileprivate var change: AttributeChange {
        var change = AttributeChange()
        change.permissions = hasMode ? mode & 0o7777 : nil
        change.uid = hasUid ? uid : nil
        change.gid = hasGid ? gid : nil
        change.size = hasSize ? size : nil
        change.accessed = hasAccessed ? accessed.change : nil
        change.modified = hasModified ? modified.change : nil
        return change
    }
}

extension WireTimeChange {
    fileprivate var change: AttributeChange.TimeChange {
        now ? .now : .at(FileTime(seconds: seconds, nanoseconds: nanoseconds))
    }
}
