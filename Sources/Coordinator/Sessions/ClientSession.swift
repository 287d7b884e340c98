import Coordination
import Platform
import Synchronization
import SystemPackage
import UnderStores

/// One client's requests, taken apart and handed to the services; answers go back from tasks on the worker pool.
final class ClientSession: SessionHandler {
    struct State {
        var volume: Volume?
        var mountPath = ""
        /// Whether the mount answers an Invalidate that has an id.
        var acknowledges = false
        /// Of the mount process, over its connections.
        var client: ByteString = ""
        var device: Descriptor?
        var hasPassthrough = false
        /// A successor of the mount's process could go on: then the session is kept for it.
        var isResumable = false
        /// What the mount's processes share.
        var memory: Descriptor?
        /// What the mount says of itself, for `larder status`.
        var generation: UInt64 = 0
        var supervisor: Int32 = 0
        /// The session's name over its connections.
        var key: UInt64 = 0
        /// The mount has ended in good order.
        var hasDetached = false
        var life = Life.attached
        /// Of a session that was taken over: leases that the successor may not need.
        var inherited: Set<UInt64> = []
        /// No store of the volume does what blocks in the middle of a request (a directory may lie on a server).
        var hasOnlyObjects = false
        var streams: [UInt64: ListingStream] = [:]
        var nextStream: UInt64 = 1
        var tasks: [UInt64: Task<Void, Never>] = [:]
        /// When each source file was last opened, so that the kernel's pages are kept while they are right.
        var opened: [UInt64: UInt64] = [:]
        var isClosed = false
    }

    enum Life { case attached, kept, takenOver, ended }

    /// Directory streams that one session may have open.
    private static let maximumStreams = 4096
    /// How many entries fit into a message whatever their names: 255 bytes of name and 90 of attributes each.
    private static let entriesPerPage = 350

    let session: Session
    let services: Services
    let leases = LeaseTable()
    let state = Lock(State())
    let notices: NoticeQueue
    let busy = BusyDirectories()

    init(_ session: Session, services: Services) {
        self.session = session
        self.services = services
        notices = NoticeQueue(session, logger: services.logger)
        services.sessions.add(self)
    }

    /// Of the session that this one goes on with; 0: none.
    let adopted = Atomic<UInt64>(0)

    /// Whose locks, leases and changes are whose; the same when a session goes on in another connection.
    var number: UInt64 {
        let adopted = adopted.load(ordering: .acquiring)
        return adopted == 0 ? session.number : adopted
    }
    var isMount: Bool { session.role == .mount }
    var mountPath: String { state.withLock { $0.mountPath } }
    /// Whether it is attached and says when its kernel has forgotten.
    var acknowledges: Bool { state.withLock { $0.acknowledges } }

    func receive(_ body: WireEnvelope.OneOf_Body, id: UInt64, operation: UInt64, descriptors: [Descriptor]) {
        switch body {
        case .release(let release): return leases.release(release.lease)
        case .accessReport(let report): return recordAccess(report)
        case .fetch(let fetch) where fetch.prefetch: return prefetch(fetch)
        case .cancelLock(let cancel): return services.locks.cancel(operation: cancel.operation, session: number)
        // The only answers that a client gives. One that cannot forget has heard it all the same.
        case .done, .failure: return notices.acknowledged(id)
        case .keepLeases(let keep): return keepLeases(keep)
        case .detach: return state.withLock { $0.hasDetached = true }
        default: break
        }
        let start = { [self] in
            // Under the lock, so that the task cannot be done before it is known.
            state.withLock { state in
                guard !state.isClosed else { return }
                state.tasks[id] = Task(executorPreference: services.pool) { [self] in
                    do throws(CoordinationError) {
                        try await answer(body, id: id, operation: operation, descriptors: descriptors)
                    } catch {
                        session.fail(id, error.errno, error.message)
                    }
                    finished(id)
                }
            }
        }
        if isShort(body) { services.pool.startingHere(start) } else { start() }
    }

    /// Whether a request is usually answered from memory and the index, or else waits without a thread: then the session's
    /// thread answers it, which costs less than to hand it to another. It may send: a client's receive thread never does.
    private func isShort(_ body: WireEnvelope.OneOf_Body) -> Bool {
        switch body {
        case .lookup, .getAttributes, .create, .commit: state.withLock { $0.hasOnlyObjects }
        default: false
        }
    }

    private func finished(_ id: UInt64) { state.withLock { $0.tasks[id] = nil } }

    func close() {
        let (tasks, client, life) = state.withLock { state in
            state.isClosed = true
            state.streams = [:]
            if state.life == .attached { state.life = state.isResumable && !state.hasDetached ? .kept : .ended }
            defer { state.tasks = [:] }
            return (Array(state.tasks.values), state.client, state.life)
        }
        for task in tasks { task.cancel() }
        switch life {
        case .takenOver: services.sessions.remove(self)
        case .kept:
            notices.keep()
            services.locks.endWaits(session: number)
            services.operations.end(client)
            services.sessions.keep(self)
        case .attached, .ended:
            services.operations.end(client)
            end()
        }
    }

    /// Frees what the session had.
    func end() {
        notices.close()
        leases.close()
        services.locks.release(session: number)
        state.withLock { state in
            state.device = nil
            state.memory = nil
        }
        services.sessions.remove(self)
    }

    /// The record of an inode that this session may see.
    func visible(_ inode: UInt64) throws(CoordinationError) -> InodeRecord {
        let record = try services.namespace.record(inode)
        guard session.role == .control || state.withLock({ $0.volume })?.contains(inode, record) == true else {
            throw CoordinationError(.staleNFSFileHandle, "inode \(inode) is not in this session's volume")
        }
        return record
    }

    /// An inode without a name that this session may see.
    func visibleNameless(_ inode: UInt64) async -> NamelessInodes.Entry? {
        guard let entry = await services.changes.nameless(inode),
            state.withLock({ $0.volume })?.contains(inode, entry.record) == true
        else { return nil }
        return entry
    }

    private func answer(
        _ body: WireEnvelope.OneOf_Body, id: UInt64, operation: UInt64, descriptors: [Descriptor]
    ) async throws(CoordinationError) {
        switch body {
        case .attach(let request): try await attach(request, id)
        case .registerDevice(let request): try registerDevice(request, id, descriptors)
        case .lookup(let request): try await lookup(request, id)
        case .getAttributes(let request): try await attributes(request, id)
        case .list(let request): try await list(request, id)
        case .readLink(let request):
            _ = try visible(request.inode)
            var target = WireLinkTarget()
            target.target = try await services.namespace.readLink(request.inode).data
            session.reply(to: id, .linkTarget(target))
        case .getSpace(let request): try await space(request, id)
        case .getExtendedAttribute(let request): try await extendedAttribute(request, id)
        case .listExtendedAttributes(let request): try await listExtendedAttributes(request, id)
        case .create, .makeNode, .makeDirectory, .makeSymbolicLink, .makeHardLink, .remove, .rename, .setAttributes,
            .setExtendedAttribute, .removeExtendedAttribute:
            try await change(body, id: id, operation: operation)
        case .commit(let request): try await commit(request, id)
        case .reserve(let request): try await reserve(request, id)
        case .synchronizeDirectory(let request): try await synchronizeDirectory(request, id)
        case .getLock(let request): try lock(request, id)
        case .setLock(let request): try await lock(request, id, operation)
        case .open(let request): try await open(request, id)
        case .fetch(let request): try await fetch(request, id)
        case .getStatus, .describe, .measure, .load, .free, .synchronize, .shutdown, .flush, .listConflicts,
            .resolveConflict, .takeOverMount:
            guard session.role == .control else {
                throw CoordinationError(.permissionDenied, "a mount may not send control requests")
            }
            try await control(body, id)
        default:
            throw CoordinationError(.notSupported, "the coordinator does not take this message")
        }
    }
}

extension ClientSession {
    private func attach(_ request: WireAttach, _ id: UInt64) async throws(CoordinationError) {
        guard state.withLock({ $0.volume == nil }) else {
            throw CoordinationError(.fileExists, "the session is attached already")
        }
        let client = ByteString(request.client)
        if request.acknowledges { notices.expectConfirmations() }
        services.sessions.replace(client, by: self, goesOn: request.takesOver)
        let volume: Volume
        if let known = state.withLock({ $0.volume }) {
            volume = known
        } else {
            volume = try await services.volumes.attach(request.volume, resuming: request.resuming)
        }
        let key = state.withLock { state in
            state.volume = volume
            state.generation = request.generation
            state.supervisor = request.supervisor
            if state.key == 0 { state.key = UInt64.random(in: 1 ... .max) }
            state.mountPath = request.mountPath
            state.client = ByteString(request.client)
            state.acknowledges = request.acknowledges
            state.hasOnlyObjects = volume.mounts.allSatisfy { $0.store.fileWriting == nil && !$0.lendsSource }
            return state.key
        }
        services.operations.begin(client)
        let record = try services.namespace.record(volume.root)
        var attached = WireAttached()
        attached.root = volume.root
        attached.attributes = services.namespace.attributes(volume.root, record)
        attached.volume = volume.source
        attached.session = key
        attached.kernelAttributes = volume.mounts.contains { $0.store.fileWriting != nil }
        session.reply(to: id, .attached(attached))
    }

    private func registerDevice(
        _ request: WireRegisterDevice, _ id: UInt64, _ descriptors: [Descriptor]
    ) throws(CoordinationError) {
        guard descriptors.count == (request.resumable ? 2 : 1) else {
            throw CoordinationError(.invalidArgument, "a device registration carries a device, and its memory")
        }
        state.withLock { state in
            state.device = descriptors[0]
            state.hasPassthrough = request.passthrough
            state.isResumable = request.resumable
            state.memory = request.resumable ? descriptors[1] : nil
        }
        session.reply(to: id, .done(.init()))
    }

    private func lookup(_ request: WireLookup, _ id: UInt64) async throws(CoordinationError) {
        _ = try visible(request.parent)
        var entry = WireEntry()
        switch try await services.namespace.lookup(parent: request.parent, name: ByteString(request.name)) {
        case .inode(let inode, let record): entry.attributes = services.namespace.attributes(inode, record)
        case .absent(let until):
            entry.negativeTtlMilliseconds = WireAttributes.milliseconds(until: until, now: MonotonicClock.now())
        }
        session.reply(to: id, .entry(entry))
    }

    private func attributes(_ request: WireGetAttributes, _ id: UInt64) async throws(CoordinationError) {
        if let nameless = await visibleNameless(request.inode) {
            var entry = WireEntry()
            entry.attributes = services.namespace.attributes(request.inode, nameless.record)
            entry.attributes.ttlMilliseconds = 0
            session.reply(to: id, .entry(entry))
            return
        }
        _ = try visible(request.inode)
        let record = try await services.namespace.current(request.inode)
        var entry = WireEntry()
        entry.attributes = services.namespace.attributes(request.inode, record)
        session.reply(to: id, .entry(entry))
    }

    private func list(_ request: WireList, _ id: UInt64) async throws(CoordinationError) {
        if request.close {
            state.withLock { $0.streams[request.stream] = nil }
            session.reply(to: id, .done(.init()))
            return
        }
        let (number, stream) = try listingStream(request)
        let limit =
            request.maximumEntries == 0
            ? Self.entriesPerPage : min(Int(request.maximumEntries), Self.entriesPerPage)
        let items = try await stream.next(limit)
        var page = WireListPage()
        page.stream = number
        page.parent = stream.parent
        page.order = stream.order == .byName ? .byName : .store
        page.end = items.isEmpty
        page.entries = items.map { item in
            var entry = WireListEntry()
            entry.name = item.name.data
            entry.attributes = services.namespace.attributes(item.inode, item.record)
            return entry
        }
        if page.end { state.withLock { $0.streams[number] = nil } }
        session.reply(to: id, .listPage(page))
    }

    private func listingStream(_ request: WireList) throws(CoordinationError) -> (UInt64, ListingStream) {
        if request.stream != 0 {
            guard let stream = state.withLock({ $0.streams[request.stream] }) else {
                throw CoordinationError(.staleNFSFileHandle, "the directory stream has ended")
            }
            return (request.stream, stream)
        }
        _ = try visible(request.directory)
        let stream = try ListingStream(
            services.namespace, directory: request.directory,
            order: request.order == .byName ? .byName : request.order == .store ? .store : .any)
        let number = state.withLock { state -> UInt64? in
            guard !state.isClosed, state.streams.count < Self.maximumStreams else { return nil }
            defer { state.nextStream += 1 }
            state.streams[state.nextStream] = stream
            return state.nextStream
        }
        guard let number else { throw CoordinationError(.tooManyOpenFiles, "too many directories are being read") }
        return (number, stream)
    }

    private func space(_ request: WireGetSpace, _ id: UInt64) async throws(CoordinationError) {
        let record = try visible(request.inode)
        var known: WireSpace?
        if let mount = try services.namespace.mountPoint(of: record) {
            do {
                known = try await mount.store.space().map { space in
                    var answer = WireSpace()
                    answer.totalBytes = space.totalBytes
                    answer.freeBytes = space.freeBytes
                    answer.availableBytes = space.availableBytes
                    answer.files = space.files
                    answer.freeFiles = space.freeFiles
                    return answer
                }
            } catch { throw CoordinationError(error) }
        }
        session.reply(to: id, .space(known ?? .unbounded))
    }

    private func extendedAttribute(
        _ request: WireGetExtendedAttribute, _ id: UInt64
    ) async throws(CoordinationError) {
        guard ByteString(request.name).hasPrefix("user.larder.") else {
            _ = try visible(request.inode)
            var attribute = WireExtendedAttribute()
            attribute.value = try await services.changes.extendedAttribute(
                request.inode, ByteString(request.name), Caller(uid: 0, gid: 0, isChecked: true)
            ).data
            session.reply(to: id, .extendedAttribute(attribute))
            return
        }
        let description = try describe(request.inode)
        let value: String? =
            switch ByteString(request.name).description {
            case "user.larder.inode": "\(request.inode)"
            case "user.larder.url": description.url
            case "user.larder.version": description.version.isEmpty ? nil : description.version
            case "user.larder.cached": "\(description.cachedBytes)"
            case "user.larder.tier": description.tier.isEmpty ? nil : description.tier
            default: nil
            }
        guard let value else { throw CoordinationError(.noData, "no such attribute") }
        var attribute = WireExtendedAttribute()
        attribute.value = ByteString(value).data
        session.reply(to: id, .extendedAttribute(attribute))
    }
}

extension WireSpace {
    /// What statfs(2) shows of a store without bounds: an exbibyte, all free.
    fileprivate static var unbounded: WireSpace {
        var space = WireSpace()
        space.totalBytes = 1 << 60
        space.freeBytes = 1 << 60
        space.availableBytes = 1 << 60
        space.files = 1 << 40
        space.freeFiles = 1 << 40
        return space
    }
}
