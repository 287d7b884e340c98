import BlockCaching
import Coordination
import Glibc
import Logging
import Platform
import SystemPackage
import UnderStores

/// Decides how an open file is served, and lends what serves it.
final class LeaseService: Sendable {
    /// What goes back to the mount.
    struct Grant: Sendable {
        var opened: WireOpened
        var descriptors: [Descriptor] = []
    }

    /// Objects up to this size travel in the reply: one message is cheaper than two descriptors, and it fits into
    /// `PacketSocket.maximumMessage`.
    private static let inlineLimit: UInt64 = 32 << 10
    /// The most that one read past the cache brings; a reader asks for 1 MiB at most.
    private static let readThroughLimit: UInt64 = 4 << 20

    let namespace: Namespace
    let changes: ChangeService
    private let cache: BlockCache
    private let logger: Logger
    private let notes: StatusNotes

    init(namespace: Namespace, changes: ChangeService, cache: BlockCache, notes: StatusNotes, logger: Logger) {
        self.namespace = namespace
        self.changes = changes
        self.cache = cache
        self.notes = notes
        self.logger = logger
    }

    /// One open(2) of an inode.
    struct Open: Sendable {
        var inode: UInt64
        /// Of open(2): O_ACCMODE, O_TRUNC, O_APPEND.
        var flags: CInt = O_RDONLY
        var origin = ChangeService.Origin(session: nil, caller: Caller(uid: 0, gid: 0))
        /// The mount's FUSE connection, when it and the mount can do passthrough.
        var device: Descriptor?
        /// When the session last opened the inode: tells whether the kernel's pages are still right.
        var seen: UInt64?
        /// The staged file whose descriptor the mount still has.
        var staged: UInt64 = 0

        var isWriting: Bool { flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0 }
    }

    /// Grants a lease on the version that an inode names, or on the file that is being written.
    /// - Throws: ESTALE (superseded), EISDIR, EINVAL, ENXIO, EROFS, or what the store's error maps to.
    func open(_ open: Open, into leases: LeaseTable) async throws(CoordinationError) -> Grant {
        do throws(CoordinationError) { return try await openNamed(open, into: leases) } catch {
            guard error.errno == .staleNFSFileHandle, open.staged == 0,
                let grant = try await openNameless(open, leases)
            else { throw error }
            return grant
        }
    }

    private func openNamed(_ open: Open, into leases: LeaseTable) async throws(CoordinationError) -> Grant {
        let (inode, device, seen) = (open.inode, open.device, open.seen)
        // A source file may change between the look at its attributes and the opening: look again, a few times.
        for _ in 0..<4 {
            let record = try await namespace.current(inode)
            if let grant = try await openToWrite(open, record, leases) { return grant }
            guard let mount = try namespace.mountPoint(of: record), record.attributes.kind != .directory else {
                throw CoordinationError(.isDirectory, "\(record.name) is a directory")
            }
            guard record.attributes.kind == .file, let version = record.attributes.version else {
                throw CoordinationError(.noSuchAddressOrDevice, "\(record.name) is not a regular file")
            }
            let path = try namespace.storePath(of: record)
            let request = Request(
                inode: inode, record: record, mount: mount, path: path, version: version, device: device,
                keepsCache: seen.map { $0 > record.changedAt } ?? false)
            if mount.lendsSource {
                if let grant = try await lendSource(request, leases) { return grant }
                namespace.expire(inode)
                continue
            }
            if record.attributes.size == 0 {
                return try add(request, leases, mode: "inline", .inline) { $0.inline = .init() }
            }
            if mount.cacheMode == .never {
                return try add(request, leases, mode: "read-through", .store) { $0.readThrough = .init() }
            }
            return try await lendCached(request, leases)
        }
        throw CoordinationError(.staleNFSFileHandle, "the file changes faster than it can be opened")
    }

    /// Makes a range of a leased version readable; a memory file when no tier can hold it.
    /// - Parameter bypassing: brings the bytes in memory whatever the cache holds.
    func fetch(
        _ lease: Lease, _ range: Range<UInt64>, bypassing: Bool
    ) async throws(CoordinationError) -> (fetched: WireFetched, descriptor: Descriptor?) {
        let size = lease.record.attributes.size
        let range = min(range.lowerBound, size)..<min(range.upperBound, size)
        var fetched = WireFetched()
        fetched.offset = range.lowerBound
        fetched.length = UInt64(range.count)
        guard !range.isEmpty else { return (fetched, nil) }
        do {
            switch lease.backing {
            case .inline, .source, .staged: throw CoordinationError(.invalidArgument, "this file has nothing to fetch")
            case .cached(let object):
                let memory: ReadThrough?
                if bypassing {
                    let end = min(range.upperBound, range.lowerBound + Self.readThroughLimit)
                    memory = try await object.readThrough(range.lowerBound..<end)
                } else if case .readThrough(let bytes) = try await object.ensure(range, urgency: .demand) {
                    memory = bytes
                } else {
                    memory = nil
                }
                guard let memory else { return (fetched, nil) }
                fetched.offset = memory.offset
                fetched.length = UInt64(memory.length)
                return (fetched, memory.descriptor)
            case .store:
                let range = range.lowerBound..<min(range.upperBound, range.lowerBound + Self.readThroughLimit)
                let file = try Descriptor.memory(named: "larder-read")
                try await lease.mount.store.read(
                    lease.path, range: range, expecting: lease.record.attributes.version,
                    into: MemoryFileSink(file: file, start: range.lowerBound))
                fetched.length = UInt64(range.count)
                return (fetched, file)
            }
        } catch {
            if let error = error as? StoreError, error.kind == .versionChanged || error.kind == .notFound {
                namespace.expire(lease.inode)
            }
            namespace.tallies.note(error, of: lease.mount.store.identity)
            throw CoordinationError(reading: error)
        }
    }

    /// The cached object of a record, for loading and measuring; nil for what is not cached.
    func cachedObject(_ inode: UInt64, _ record: InodeRecord) throws(CoordinationError) -> CachedObject? {
        guard let id = try cachedID(record), record.attributes.size > 0 else { return nil }
        return cache.object(id, source: try source(inode, record))
    }

    func cachedID(_ record: InodeRecord) throws(CoordinationError) -> CachedObjectID? {
        guard let mount = try namespace.mountPoint(of: record), !mount.lendsSource, mount.cacheMode != .never,
            record.attributes.kind == .file, let version = record.attributes.version
        else { return nil }
        return CachedObjectID(
            store: mount.store.identity.text, key: try namespace.storePath(of: record), version: version.bytes,
            size: record.attributes.size)
    }

    private func source(_ inode: UInt64, _ record: InodeRecord) throws(CoordinationError) -> StoreBlockSource {
        guard let mount = try namespace.mountPoint(of: record), let version = record.attributes.version else {
            throw CoordinationError(.invalidArgument, "\(record.name) has no version")
        }
        let path = try namespace.storePath(of: record)
        return StoreBlockSource(store: mount.store, path: path, version: version) { [namespace] in
            namespace.expire(inode)
        }
    }
}

extension LeaseService {
    private struct Request {
        let inode: UInt64
        let record: InodeRecord
        let mount: MountPoint
        let path: ByteString
        let version: ObjectVersion
        let device: Descriptor?
        let keepsCache: Bool
    }

    /// nil when the file changed since its attributes were taken.
    private func lendSource(_ request: Request, _ leases: LeaseTable) async throws(CoordinationError) -> Grant? {
        let file: Descriptor?
        do { file = try await request.mount.store.openSource(request.path, expecting: request.version) } catch {
            if error.kind == .versionChanged || error.kind == .notFound { return nil }
            throw CoordinationError(error)
        }
        guard let file else {
            throw CoordinationError(.ioError, "\(request.mount.source) does not lend its files; set cache: always")
        }
        if let backing = register(file, request.device) {
            return try add(request, leases, mode: "passthrough", .source, backing: backing) {
                $0.backingID = backing.number
            }
        }
        var grant = try add(request, leases, mode: "source", .source, lentFile: file) { $0.source = .init() }
        grant.opened.keepCache = request.keepsCache
        grant.descriptors = [file]
        return grant
    }

    private func lendCached(_ request: Request, _ leases: LeaseTable) async throws(CoordinationError) -> Grant {
        let size = request.record.attributes.size
        do {
            guard let object = try cachedObject(request.inode, request.record) else {
                throw CoordinationError(.ioError, "\(request.record.name) cannot be cached")
            }
            if size <= Self.inlineLimit {
                let bytes = try await wholeBytes(of: object, count: Int(size))
                return try add(request, leases, mode: "inline", .inline) { $0.inline = bytes.data }
            }
            if request.device != nil, let loan = try object.passthroughLoan() {
                if let backing = register(loan.data, request.device) {
                    return try add(
                        request, leases, mode: "passthrough", .cached(object), loan: loan, backing: backing
                    ) { $0.backingID = backing.number }
                }
                loan.close()
            }
            let loan: BlockLoan
            do { loan = try object.loan() } catch CacheError.noTier {
                return try add(request, leases, mode: "read-through", .cached(object)) { $0.readThrough = .init() }
            }
            var grant = try add(
                request, leases, mode: loan.map == nil ? "whole" : "mapped", .cached(object), loan: loan
            ) { opened in
                if loan.map == nil { opened.whole = .init() } else { opened.mapped = .init() }
            }
            grant.descriptors = [loan.data] + (loan.map.map { [$0] } ?? [])
            return grant
        } catch {
            if let error = error as? StoreError, error.kind == .versionChanged || error.kind == .notFound {
                namespace.expire(request.inode)
            }
            throw CoordinationError(reading: error)
        }
    }

    func wholeBytes(of object: CachedObject, count: Int) async throws -> ByteString {
        let range = 0..<UInt64(count)
        switch try await object.ensure(range, urgency: .demand) {
        case .readThrough(let memory): return try Self.read(memory.descriptor, count: count)
        case .cached:
            if let loan = try? object.loan() {
                defer { loan.close() }
                if loan.map == nil, let bytes = try? Self.read(loan.data, count: count) {
                    object.recordAccess(range)
                    return bytes
                }
            }
            // Evicted again already, or the cache's disk fails.
            guard let memory = try await object.readThrough(range) else { return "" }
            return try Self.read(memory.descriptor, count: count)
        }
    }

    private static func read(_ file: Descriptor, count: Int) throws -> ByteString {
        var bytes = [UInt8](repeating: 0, count: count)
        let filled = try bytes.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
        guard filled == count else { throw CoordinationError(.ioError, "a cache file is shorter than its object") }
        return ByteString(bytes)
    }

    func register(_ file: Descriptor, _ device: Descriptor?) -> FuseBacking? {
        guard let device else { return nil }
        do { return try FuseBacking(device: device, file: file) } catch {
            let hint = error == .notPermitted ? "the coordinator lacks CAP_SYS_ADMIN" : "\(error)"
            notes.set("passthrough", "the kernel refuses passthrough (\(hint)); reads are served by the mount process")
            return nil
        }
    }

    private func add(
        _ request: Request, _ leases: LeaseTable, mode: String, _ backing: Lease.Backing, loan: BlockLoan? = nil,
        backing backingID: FuseBacking? = nil, lentFile: Descriptor? = nil, _ grant: (inout WireOpened) -> Void
    ) throws(CoordinationError) -> Grant {
        let lease = leases.add { number in
            Lease(
                number: number, inode: request.inode, mount: request.mount, path: request.path, record: request.record,
                mode: mode, backing: backing, loan: loan, backingID: backingID, lentFile: lentFile)
        }
        guard let lease else {
            throw CoordinationError(.tooManyOpenFiles, "the session has ended or has too many open files")
        }
        var opened = WireOpened()
        opened.lease = lease.number
        opened.attributes = namespace.attributes(request.inode, request.record)
        opened.keepCache = !request.record.isRewritten || request.keepsCache
        grant(&opened)
        return Grant(opened: opened)
    }
}
