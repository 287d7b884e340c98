import CLinux
import Coordination
import Glibc
import Logging
import Platform
import SystemPackage

@testable import FileSystem

/// A scripted coordinator on a real socket: names and files in memory, every grant, and any answer to a fetch.
final class FakeCoordinator: @unchecked Sendable {
    struct Script {
        var tree = FakeTree()
        /// What to do with a fetch; by default it is served.
        var onFetch: @Sendable (UInt64, Range<UInt64>, Bool) -> FakeFetch = { _, _, _ in .serve }
        var ttlMilliseconds: UInt32 = 60_000
        var negativeMilliseconds: UInt32 = 60_000
        var pageEntries = 1000
        /// Lookups of these names while they are absent, and opens of them, get no answer.
        var neverAnswered: Set<ByteString> = []
        /// Opens are answered once this is set.
        var openGate: OneShot<Bool>?
        var writing = FakeWriting()
    }
    struct Log {
        var lookups: [ByteString: Int] = [:]
        var opens: [UInt64: Int] = [:]
        var releases = 0
        var fetches: [(inode: UInt64, range: Range<UInt64>, prefetch: Bool)] = []
        var reports: [WireAccessReport.Range] = []
        var lists = 0
        var attaches: [Bool] = []
        var devices = 0
        var acknowledged: [UInt64] = []
        /// The names of changes and their operation numbers, as they came.
        var changes: [(name: String, operation: UInt64)] = []
        var commits: [(inode: UInt64, synchronize: Bool, written: Bool)] = []
        var reserved: [UInt64] = []
        var extendedAttributes: [ByteString] = []
        var clients: Set<[UInt8]> = []
        var cancelledLocks = 0
        var callers: [(name: String, uid: UInt32, gid: UInt32)] = []
        var presented: [UInt64] = []
    }

    let directory: String
    let socketPath: String
    let script = Lock(Script())
    let log = Lock(Log())
    // Threads of a pool live as long as the process, so all share one. A gated open holds a thread.
    fileprivate static let pool = WorkerPool(name: "fake", threads: 8)
    private let server: Lock<SessionServer?> = Lock(nil)
    private let sessions = Lock<[Session]>([])
    private var fileCount = 0
    private let mountCount = Lock(0)

    init() throws {
        var template = Array("/tmp/larder-mount-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        directory = template.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        socketPath = directory + "/socket"
        try start()
    }

    deinit {
        stop()
        // Nothing lies deeper than one level; a mount point that is still mounted stays.
        for name in (try? Self.names(in: directory)) ?? [] { Glibc.remove("\(directory)/\(name)") }
        rmdir(directory)
    }

    private static func names(in path: String) throws -> [ByteString] {
        let reader = DirectoryReader(try Descriptor.open(path, O_RDONLY))
        var names: [ByteString] = []
        while let name = try reader.next() { names.append(name) }
        return names
    }

    /// Listens (again).
    func start() throws {
        let server = try SessionServer(
            path: socketPath, software: "fake", logger: quietLogger, admit: { _, _ in nil },
            makeHandler: { [weak self] session in
                self?.sessions.withLock { $0.append(session) }
                return FakeSession(session, self)
            })
        self.server.withLock { $0 = server }
    }

    /// Closes every connection and stops listening, as a coordinator that dies.
    func stop() {
        let server = self.server.withLock { server in
            defer { server = nil }
            return server
        }
        server?.close()
        sessions.withLock { $0 = [] }
    }

    /// Several mounts may be attached at once.
    func newMountPoint() -> String {
        let number = mountCount.withLock { count in
            count += 1
            return count
        }
        return directory + (number == 1 ? "/mnt" : "/mnt-\(number)")
    }

    @discardableResult
    func add(
        _ name: ByteString, _ bytes: [UInt8], _ grant: FakeGrant, blockSize: Int = 4096,
        in parent: UInt64 = FakeTree.root
    ) throws -> (inode: UInt64, file: FakeFile) {
        fileCount += 1
        let file = try FakeFile(bytes, grant, blockSize: blockSize, path: "\(directory)/cache-\(fileCount)")
        return (script.withLock { $0.tree.add(name, .file(file), in: parent) }, file)
    }

    func notify(_ body: WireEnvelope.OneOf_Body) {
        for session in sessions.withLock({ $0 }) { session.notify(body) }
    }

    /// Sends the client something that it has to acknowledge.
    func request(_ body: WireEnvelope.OneOf_Body, id: UInt64) {
        for session in sessions.withLock({ $0 }) { _ = session.request(body, id: id) }
    }

    /// A link to this coordinator.
    func link(patience: Duration = .seconds(30)) throws -> CoordinatorLink {
        let path = socketPath
        return try CoordinatorLink(socketPath: path, attachment: WireAttach(), patience: patience, logger: quietLogger)
        {
            (onNotification, onClose) throws(CoordinationError) in
            try CoordinatorClient(
                path: path, role: .mount, software: "test", onNotification: onNotification, onClose: onClose)
        }
    }
}

let quietLogger: Logger = {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return logger
}()

/// One session of the fake: leases, streams, the mount's device.
final class FakeSession: SessionHandler, @unchecked Sendable {
    struct Lease {
        let inode: UInt64
        let backing: Int32?
        var writes = false
    }
    struct State {
        var leases: [UInt64: Lease] = [:]
        var nextLease: UInt64 = 1
        var streams: [UInt64: (names: [(ByteString, UInt64)], position: Int)] = [:]
        var nextStream: UInt64 = 1
        var device: Descriptor?
        var passthrough = false
        var client: [UInt8] = []
        /// One backing id for all leases of an inode, as the kernel wants it.
        var backings: [UInt64: (number: Int32, leases: Int)] = [:]
    }
    let session: Session
    private weak var owner: FakeCoordinator?
    let state = Lock(State())

    init(_ session: Session, _ owner: FakeCoordinator?) {
        self.session = session
        self.owner = owner
    }

    /// The backing id of an inode, counted.
    func register(_ inode: UInt64, _ file: Descriptor, _ device: Descriptor) throws -> Int32 {
        try state.withLock { state throws in
            if let known = state.backings[inode] {
                state.backings[inode] = (known.number, known.leases + 1)
                return known.number
            }
            let number = larder_fuse_backing_open(device.raw, file.raw)
            guard number >= 0 else { throw Errno(rawValue: -number) }
            state.backings[inode] = (number, 1)
            return number
        }
    }

    /// Whether the inode has a backing id: another file would need another.
    func hasBacking(_ inode: UInt64) -> Bool { state.withLock { $0.backings[inode] != nil } }

    /// Whether it was the last lease with the backing id.
    private func unregister(_ inode: UInt64) -> Bool {
        state.withLock { state in
            guard let known = state.backings[inode] else { return false }
            state.backings[inode] = known.leases > 1 ? (known.number, known.leases - 1) : nil
            return known.leases == 1
        }
    }

    func close() {
        guard let owner else { return }
        let me = ObjectIdentifier(self)
        owner.script.withLock { $0.writing.locks.removeAll { $0.session == me } }
    }

    func receive(_ body: WireEnvelope.OneOf_Body, id: UInt64, operation: UInt64, descriptors: [Descriptor]) {
        guard let owner else { return }
        FakeCoordinator.pool.submit { [self] in
            do { try answer(body, id, operation, descriptors, owner) } catch let error as Errno {
                session.fail(id, error, "\(error)")
            } catch { session.fail(id, .ioError, "\(error)") }
        }
    }

    private func answer(
        _ body: WireEnvelope.OneOf_Body, _ id: UInt64, _ operation: UInt64, _ descriptors: [Descriptor],
        _ owner: FakeCoordinator
    ) throws {
        if try answerChange(body, id, operation, owner) { return }
        let script = owner.script.withLock { $0 }
        switch body {
        case .attach(let attach):
            state.withLock { $0.client = Array(attach.client) }
            owner.log.withLock { log in
                log.attaches.append(attach.resuming)
                log.clients.insert(Array(attach.client))
            }
            var attached = WireAttached()
            attached.root = FakeTree.root
            attached.attributes = script.tree.attributes(FakeTree.root, ttl: script.ttlMilliseconds) ?? .init()
            attached.kernelAttributes = script.writing.kernelAttributes
            session.reply(to: id, .attached(attached))
        case .done: owner.log.withLock { $0.acknowledged.append(id) }
        case .registerDevice(let device):
            owner.log.withLock { $0.devices += 1 }
            state.withLock { state in
                state.device = descriptors.first
                state.passthrough = device.passthrough
            }
            session.reply(to: id, .done(WireDone()))
        case .lookup(let lookup):
            let name = ByteString(lookup.name)
            owner.log.withLock { $0.lookups[name, default: 0] += 1 }
            let known = script.tree.children[lookup.parent]?[name]
            if known == nil, script.neverAnswered.contains(name) { return }
            var entry = WireEntry()
            entry.negativeTtlMilliseconds = script.negativeMilliseconds
            if let inode = script.tree.children[lookup.parent]?[name],
                let attributes = script.attributes(inode)
            {
                entry.attributes = attributes
            }
            session.reply(to: id, .entry(entry))
        case .getAttributes(let request):
            guard let attributes = script.attributes(request.inode) else {
                throw Errno.staleNFSFileHandle
            }
            var entry = WireEntry()
            entry.attributes = attributes
            session.reply(to: id, .entry(entry))
        case .list(let list): try answer(list, id, script, owner)
        case .readLink(let request):
            guard case .link(let target) = script.tree.nodes[request.inode]?.content else {
                throw Errno.invalidArgument
            }
            var answer = WireLinkTarget()
            answer.target = ByteString(target).data
            session.reply(to: id, .linkTarget(answer))
        case .getSpace:
            var space = WireSpace()
            space.totalBytes = 1 << 40
            space.freeBytes = 1 << 39
            space.availableBytes = 1 << 39
            space.files = 12345
            session.reply(to: id, .space(space))
        case .getExtendedAttribute(let request):
            let name = ByteString(request.name)
            owner.log.withLock { $0.extendedAttributes.append(name) }
            var answer = WireExtendedAttribute()
            if name.hasPrefix("user.larder.") {
                answer.value = ByteString("\(name) of \(request.inode)").data
            } else {
                guard let value = script.writing.attributes[request.inode]?[name] else { throw Errno.noData }
                answer.value = value.data
            }
            session.reply(to: id, .extendedAttribute(answer))
        case .open(let open): try answer(open, id, script, owner)
        case .release(let release):
            let (lease, device) = state.withLock { ($0.leases.removeValue(forKey: release.lease), $0.device) }
            if let lease, let backing = lease.backing, let device, unregister(lease.inode) {
                _ = larder_fuse_backing_close(device.raw, backing)
            }
            if let lease { try endWriting(lease, release, owner) }
            owner.log.withLock { $0.releases += 1 }
        case .fetch(let fetch): try answer(fetch, id, script, owner)
        case .accessReport(let report): owner.log.withLock { $0.reports += report.ranges }
        default: throw Errno.notSupported
        }
    }

    private func answer(_ list: WireList, _ id: UInt64, _ script: FakeCoordinator.Script, _ owner: FakeCoordinator)
        throws
    {
        if list.close {
            state.withLock { $0.streams[list.stream] = nil }
            session.reply(to: id, .done(WireDone()))
            return
        }
        owner.log.withLock { $0.lists += 1 }
        guard let children = script.tree.children[list.directory] else { throw Errno.notDirectory }
        let page = try state.withLock { state throws -> WireListPage in
            var number = list.stream
            if number == 0 {
                number = state.nextStream
                state.nextStream += 1
                state.streams[number] = (children.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, 0)
            }
            guard let stream = state.streams[number] else { throw Errno.staleNFSFileHandle }
            let end = min(stream.position + min(script.pageEntries, Int(list.maximumEntries)), stream.names.count)
            var page = WireListPage()
            page.stream = number
            page.end = end == stream.names.count
            for (name, inode) in stream.names[stream.position..<end] {
                guard let attributes = script.attributes(inode) else { continue }
                var entry = WireListEntry()
                entry.name = name.data
                entry.attributes = attributes
                page.entries.append(entry)
            }
            state.streams[number] = page.end ? nil : (stream.names, end)
            return page
        }
        session.reply(to: id, .listPage(page))
    }

    private func answer(_ open: WireOpen, _ id: UInt64, _ script: FakeCoordinator.Script, _ owner: FakeCoordinator)
        throws
    {
        owner.log.withLock { $0.opens[open.inode, default: 0] += 1 }
        guard let attributes = script.tree.attributes(open.inode, ttl: script.ttlMilliseconds),
            case .file(let file) = script.tree.nodes[open.inode]?.content
        else { throw Errno.staleNFSFileHandle }
        if let node = script.tree.nodes[open.inode], script.neverAnswered.contains(node.name) { return }
        _ = script.openGate?.wait()
        if try answerWriting(open, id, owner) { return }
        var opened = WireOpened()
        opened.attributes = attributes
        opened.keepCache = true
        var descriptors: [Descriptor] = []
        var backing: Int32?
        switch file.grant {
        case .inline: opened.inline = ByteString(file.bytes).data
        case .readThrough: opened.readThrough = .init()
        case .mapped:
            opened.mapped = .init()
            descriptors = [file.cache] + [file.map?.descriptor].compactMap { $0 }
        case .source:
            opened.source = .init()
            descriptors = [file.cache]
        case .passthrough, .whole:
            let (device, passthrough) = state.withLock { ($0.device, $0.passthrough) }
            if file.grant == .passthrough, open.passthrough, passthrough, let device {
                let number = try register(open.inode, file.cache, device)
                backing = number
                opened.backingID = number
            } else {
                opened.whole = .init()
                descriptors = [file.cache]
            }
        }
        opened.lease = state.withLock { state in
            defer { state.nextLease += 1 }
            state.leases[state.nextLease] = Lease(inode: open.inode, backing: backing)
            return state.nextLease
        }
        session.reply(to: id, .opened(opened), descriptors: descriptors)
    }

    private func answer(_ fetch: WireFetch, _ id: UInt64, _ script: FakeCoordinator.Script, _ owner: FakeCoordinator)
        throws
    {
        guard let lease = state.withLock({ $0.leases[fetch.lease] }),
            case .file(let file) = script.tree.nodes[lease.inode]?.content
        else { throw Errno.badFileDescriptor }
        let range = fetch.offset..<min(fetch.offset + fetch.length, UInt64(file.bytes.count))
        owner.log.withLock { $0.fetches.append((lease.inode, range, fetch.prefetch)) }
        var fetched = WireFetched()
        fetched.offset = range.lowerBound
        fetched.length = UInt64(range.count)
        var descriptors: [Descriptor] = []
        let action = file.grant == .readThrough ? .memory : script.onFetch(lease.inode, range, fetch.prefetch)
        switch action {
        case .serve: try file.fill(range)
        case .evict:
            try file.fill(range)
            try file.evict(range)
        case .memory:
            let memory = try Descriptor.memory(named: "fetched")
            try file.bytes[Int(range.lowerBound)..<Int(range.upperBound)].withUnsafeBytes {
                try memory.write($0, at: 0)
            }
            descriptors = [memory]
        case .fail(let errno): throw errno
        case .never: return
        }
        if !fetch.prefetch { session.reply(to: id, .fetched(fetched), descriptors: descriptors) }
    }
}
