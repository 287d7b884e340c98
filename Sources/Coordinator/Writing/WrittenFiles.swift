import BlockCaching
import Coordination
import Glibc
import Logging
import Platform
import SystemPackage
import UnderStores

/// Which inodes are staged files now, who has them open, and what the namespace learns of them.
final class WrittenFiles: StagedAttributes, StagingEvents {
    private struct Uses {
        /// By session: opens for writing.
        var writers: [UInt64: Int] = [:]
        var leases = 0
    }

    private struct Parts {
        var staging: StagingService?
        /// The cached object of a record; nil for what is not cached.
        var cachedObject: (@Sendable (UInt64, InodeRecord) throws(CoordinationError) -> CachedObject?)?
        var leases: (@Sendable () -> [Lease])?
    }

    private let namespace: Namespace
    private let locks: ChangeLocks
    private let logger: Logger
    private let uses = Lock<[UInt64: Uses]>([:])
    /// Opens for writing of files that are written in place, by inode.
    private let inPlace = Lock<[UInt64: Int]>([:])
    private let parts = Lock(Parts())

    init(namespace: Namespace, locks: ChangeLocks, logger: Logger) {
        self.namespace = namespace
        self.locks = locks
        self.logger = logger
    }

    /// Set once, before the first session: the staging service tells this object what happens.
    func attach(
        _ staging: StagingService,
        cachedObject: @escaping @Sendable (UInt64, InodeRecord) throws(CoordinationError) -> CachedObject?,
        leases: @escaping @Sendable () -> [Lease]
    ) {
        parts.withLock { $0 = Parts(staging: staging, cachedObject: cachedObject, leases: leases) }
        namespace.attach(self)
    }

    private var staging: StagingService? { parts.withLock { $0.staging } }

    // MARK: Finding

    /// The staged file that has the truth of a record.
    func file(of record: InodeRecord) -> StagedFile? {
        record.staged == 0 ? nil : staging?.file(record.staged)
    }

    func attributes(of staged: UInt64) -> LiveAttributes? {
        guard let file = staging?.file(staged), let status = try? file.status() else { return nil }
        return LiveAttributes(
            size: status.size, blocks: status.blocks, modified: status.modified, changed: status.changed,
            isBeingWritten: uses.withLock { $0[staged]?.writers.isEmpty == false })
    }

    /// The cached versions that open readers of an inode have.
    func readers(of inode: UInt64) -> [CachedObject] {
        let leases = parts.withLock { $0.leases }?() ?? []
        return leases.filter { $0.inode == inode }.compactMap { lease in
            if case .cached(let object) = lease.backing { object } else { nil }
        }
    }

    /// Whether any session has the inode open.
    func isOpen(_ inode: UInt64) -> Bool { parts.withLock { $0.leases }?().contains { $0.inode == inode } ?? false }

    // MARK: Making

    /// The staged file of an inode, made if there is none, with the object's bytes unless they are to go. The caller has
    /// claimed the inode.
    func stage(
        _ inode: UInt64, _ record: InodeRecord, mount: MountPoint, isTruncated: Bool
    ) async throws(CoordinationError) -> StagedFile {
        guard let staging, let objects = mount.store.objectWriting else {
            throw CoordinationError(.readOnlyFileSystem, "\(mount.source) cannot be written")
        }
        if let file = file(of: record), staging.reopen(file) {
            if isTruncated {
                do throws(Errno) { try file.truncate(to: 0) } catch {
                    throw CoordinationError(error, "cannot truncate \(file.path)")
                }
            }
            return file
        }
        // A staged file may have ended since the record was read.
        let record = try namespace.record(inode)
        let path = try namespace.storePath(of: record)
        var metadata = mount.metadata(of: record)
        // Stamping it would set the time that the file has now for good.
        metadata.modified = isTruncated ? .now() : metadata.modified
        if let known = try? await objects.metadata(of: path)?.metadata {
            metadata.extendedAttributes = known.extendedAttributes
            metadata.contentType = known.contentType
            metadata.preserved = known.preserved
        }
        var contents = StagedContents.empty
        if !isTruncated, record.attributes.size > 0 {
            guard let object = try parts.withLock({ $0.cachedObject })?(inode, record) else {
                throw CoordinationError(.notSupported, "\(mount.source) is not cached; its files can only be replaced")
            }
            contents = .object(object)
        }
        let file = try await staging.create(
            StagedTarget(
                store: objects, path: path, base: record.attributes.version.map { .version($0) } ?? .none,
                metadata: metadata, writeType: mount.writeType(of: path), inode: inode),
            contents: contents)
        namespace.change(inode, origin: nil, isTold: false) { record in
            record.staged = file.number
            record.expiry = .max
        }
        return file
    }

    /// Commits what was changed without an open file: truncate(2), mknod(2). The caller has claimed the inode.
    func commitUnopened(_ file: StagedFile) async throws(CoordinationError) {
        guard let staging, uses.withLock({ $0[file.number]?.leases ?? 0 }) == 0 else { return }
        _ = try await staging.commit(file, .close)
        await staging.release(file)
    }

    /// The name of a file is gone; who has it open goes on.
    func abandon(_ file: StagedFile) async { await staging?.discard(file) }

    /// An object has another name or version now, with the same bytes: what is cached of it stays.
    func keepCached(
        _ mount: MountPoint, from path: ByteString, _ version: ObjectVersion?, to other: ByteString,
        _ newVersion: ObjectVersion?, size: UInt64
    ) async {
        guard let staging, let version, let newVersion, size > 0, !mount.lendsSource, mount.cacheMode != .never else {
            return
        }
        let store = mount.store.identity.text
        await staging.blocking { [cache = staging.cache] in
            _ = cache.rename(
                CachedObjectID(store: store, key: path, version: version.bytes, size: size),
                to: CachedObjectID(store: store, key: other, version: newVersion.bytes, size: size))
        }
    }

    // MARK: Opens

    /// Whether somebody has a local file open for writing: then what is known of it may be wrong at any time.
    func isWrittenInPlace(_ inode: UInt64) -> Bool { inPlace.withLock { $0[inode] != nil } }

    func beginInPlace(_ inode: UInt64) { inPlace.withLock { $0[inode, default: 0] += 1 } }

    func endInPlace(_ inode: UInt64) {
        inPlace.withLock { opens in
            let count = opens[inode, default: 1] - 1
            opens[inode] = count == 0 ? nil : count
        }
    }

    func begin(_ file: StagedFile, session: UInt64, isWriting: Bool) {
        uses.withLock { uses in
            uses[file.number, default: Uses()].leases += 1
            if isWriting { uses[file.number]?.writers[session, default: 0] += 1 }
        }
    }

    /// Whether sessions other than this one have the file open: then no kernel may keep pages of it.
    func isShared(_ file: StagedFile, beyond session: UInt64) -> Bool {
        uses.withLock { uses in uses[file.number]?.writers.keys.contains { $0 != session } ?? false }
    }

    /// Ends an open. After the last, what is left is committed, and the file goes into the cache.
    func end(_ file: StagedFile, session: UInt64, isWriting: Bool) {
        let (isUnwritten, isUnused) = uses.withLock { uses -> (Bool, Bool) in
            guard var use = uses[file.number] else { return (false, false) }
            use.leases -= 1
            if isWriting {
                let count = use.writers[session, default: 1] - 1
                use.writers[session] = count == 0 ? nil : count
            }
            uses[file.number] = use.leases == 0 ? nil : use
            return (isWriting && use.writers.isEmpty, use.leases == 0)
        }
        guard let staging, isUnwritten || isUnused else { return }
        Task(executorPreference: staging.pool) { [self] in
            if isUnused {
                var claims = ChangeLocks.Claims()
                claims.exclusive = [.inode(file.inode)]
                await locks.withClaims(claims) {
                    // Somebody may have opened it meanwhile, and writes: then it is not over.
                    if uses.withLock({ $0[file.number] }) == nil { await staging.release(file) }
                }
            } else {
                // Readers still have it open; bytes of a mapping may have come after the last close(2).
                _ = try? await staging.commit(file, .background)
            }
        }
    }

    // MARK: Events

    func committed(_ file: StagedFile, _ attributes: ObjectAttributes) {
        let writers = uses.withLock { uses in uses[file.number].map { Array($0.writers.keys) } ?? [] }
        let now = MonotonicClock.now()
        change(file, origin: writers.count == 1 ? writers[0] : nil) { record in
            record.attributes.version = attributes.version
            record.attributes.size = attributes.size
            record.attributes.modified = attributes.modified
            record.attributes.changed = .now()
            record.isRewritten = true
            record.changedAt = now
        }
    }

    func conflicted(_ file: StagedFile, _ reason: String) {
        logger.warning(
            "an object was changed by somebody else; see larder conflicts",
            metadata: ["path": "\(file.path)", "reason": "\(reason)"])
        let place = change(file, origin: nil) { record in
            record.staged = 0
            record.expiry = 0
        }
        if let place { namespace.notify(names: [(place.parent, place.name)], inodes: []) }
    }

    func failed(_ file: StagedFile, _ error: StoreError) {
        namespace.tallies.note(error, of: file.target.store.identity)
    }

    func finished(_ file: StagedFile) {
        let ttl = namespace.index.record(file.inode).flatMap { namespace.table.mountPoint($0.mount) }?.metadataTTL ?? 0
        let expiry = MonotonicClock.now() &+ ttl
        change(file, origin: nil, isTold: false) { record in
            record.staged = 0
            record.expiry = expiry
            if let attributes = file.committed {
                record.attributes.version = attributes.version
                record.attributes.size = attributes.size
                record.attributes.modified = attributes.modified
            } else if case .version(let version) = file.base, version != record.attributes.version {
                // A coordinator before this one has committed it, and was killed before the namespace knew.
                record.attributes.version = version
                record.attributes.size = file.contentSize ?? record.attributes.size
                record.isRewritten = true
                record.changedAt = MonotonicClock.now()
                record.expiry = 0
            }
        }
    }

    /// Changes the record of a staged file's inode, if it still has the file's content. Returns the record.
    @discardableResult
    private func change(
        _ file: StagedFile, origin: UInt64?, isTold: Bool = true, _ change: (inout InodeRecord) -> Void
    ) -> InodeRecord? {
        guard namespace.index.record(file.inode)?.staged == file.number else { return nil }
        return namespace.change(file.inode, origin: origin, isTold: isTold) { record in
            if record.staged == file.number { change(&record) }
        }
    }
}

extension MountPoint {
    /// What is written to a path of the store waits for what.
    func writeType(of path: ByteString) -> WriteType {
        let rules = writeTypes.filter { path == $0.prefix || path.hasPrefix($0.prefix + "/") || $0.prefix.isEmpty }
        return rules.max { $0.prefix.count < $1.prefix.count }?.type ?? .cacheThrough
    }
}
