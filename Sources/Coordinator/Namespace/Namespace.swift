import Coordination
import Logging
import Platform
import SystemPackage
import UnderStores

/// The names of all attached volumes: inode numbers, attributes and listings with their expiry, kept in the metadata
/// index and refreshed from the stores.
///
/// Inode numbers are the coordinator's, so that every mount of the node, and each generation of a mount process, agree.
package final class Namespace: Sendable {
    let index: MetadataIndex
    let table: MountTable
    let logger: Logger
    let flights: SingleFlight<NameKey, Found>
    let tallies = NamespaceTallies()
    let nameless = NamelessInodes()
    let negatives = NegativeAnswers()
    /// Inodes that are being changed in their store, with how many changes are under way: see `keeping`.
    let kept = Lock<[UInt64: Int]>([:])
    /// Called with what kernels must forget, and the session that knows already. Not under any lock.
    let invalidate: @Sendable (WireInvalidate, _ origin: UInt64?) -> Void
    private let stagedFiles = Lock<(any StagedAttributes)?>(nil)

    struct NameKey: Hashable, Sendable {
        let parent: UInt64
        let name: ByteString
    }

    /// The answer to a lookup.
    package enum Found: Sendable {
        case inode(UInt64, InodeRecord)
        /// There is no such name, until the given CLOCK_MONOTONIC nanoseconds.
        case absent(until: UInt64)
    }

    package init(
        index: MetadataIndex, table: MountTable, pool: WorkerPool, logger: Logger,
        invalidate: @escaping @Sendable (WireInvalidate, _ origin: UInt64?) -> Void
    ) {
        self.index = index
        self.table = table
        flights = SingleFlight(pool: pool)
        self.logger = logger
        self.invalidate = invalidate
    }

    /// The record of an inode. Throws ESTALE when it was superseded or never existed.
    package func record(_ inode: UInt64) throws(CoordinationError) -> InodeRecord {
        guard let record = index.record(inode) else {
            throw CoordinationError(.staleNFSFileHandle, "inode \(inode) has been superseded")
        }
        return record
    }

    /// The mount point that an inode belongs to; nil for a directory that only leads to mount points.
    /// Throws ESTALE when its volume is not attached.
    package func mountPoint(of record: InodeRecord) throws(CoordinationError) -> MountPoint? {
        if record.mount == 0 { return nil }
        guard let mount = table.mountPoint(record.mount) else {
            throw CoordinationError(.staleNFSFileHandle, "the volume of this file is not attached")
        }
        return mount
    }

    /// The path of an inode within its store. Throws ESTALE when a directory above is gone.
    package func storePath(of record: InodeRecord) throws(CoordinationError) -> ByteString {
        guard let path = index.path(of: record) else {
            throw CoordinationError(.staleNFSFileHandle, "a directory above has been removed")
        }
        return path
    }

    /// Finds `name` in a directory, from the index while it is believed, else from the store.
    ///
    /// Throws ESTALE (the directory is gone), ENOTDIR, ENAMETOOLONG, or what the store's error maps to.
    package func lookup(parent: UInt64, name: ByteString) async throws(CoordinationError) -> Found {
        guard name.count <= 255 else { throw CoordinationError(.fileNameTooLong, "a name has at most 255 bytes") }
        if let overlay = table.overlay(in: parent, named: name) { return .inode(overlay, try record(overlay)) }
        let directory = try record(parent)
        guard directory.attributes.kind == .directory else {
            throw CoordinationError(.notDirectory, "\(directory.name) is not a directory")
        }
        let now = MonotonicClock.now()
        guard let mount = try mountPoint(of: directory), name.isNameable else { return .absent(until: now) }
        switch index.child(of: parent, named: name) {
        case .inode(let inode, let record) where isBelieved(inode, record, now): return .inode(inode, record)
        case .absent(let until) where until > now: return .absent(until: until)
        case nil where directory.listedUntil > now:
            // Kernels keep this answer too: only a name that is noted can be taken back by `synchronize`.
            let until = min(directory.listedUntil, now &+ mount.negativeTTL)
            if negatives.note(NameKey(parent: parent, name: name), until: until) { saveNegativeAnswers() }
            return .absent(until: until)
        default: break
        }
        return try await flights.run(NameKey(parent: parent, name: name)) { [self] () async throws(CoordinationError) in
            try await ask(parent: parent, directory: directory, name: name, mount: mount)
        }
    }

    /// The record of an inode, asked for again when it is no longer believed.
    /// Throws ESTALE when its name now stands for another inode or for nothing.
    package func current(_ inode: UInt64) async throws(CoordinationError) -> InodeRecord {
        let record = try record(inode)
        guard record.parent != 0, !isBelieved(inode, record, MonotonicClock.now()) else { return record }
        guard case .inode(inode, let fresh) = try await lookup(parent: record.parent, name: record.name) else {
            throw CoordinationError(.staleNFSFileHandle, "\(record.name) has been replaced or removed")
        }
        return fresh
    }

    /// The target of a symbolic link.
    package func readLink(_ inode: UInt64) async throws(CoordinationError) -> ByteString {
        let record = try record(inode)
        guard record.attributes.kind == .symbolicLink, let mount = try mountPoint(of: record) else {
            throw CoordinationError(.invalidArgument, "\(record.name) is not a symbolic link")
        }
        do { return try await mount.store.readLink(try storePath(of: record)) } catch let error as StoreError {
            throw CoordinationError(error)
        } catch let error as CoordinationError { throw error } catch {
            throw CoordinationError(.ioError, "\(error)")
        }
    }

    /// What stat(2) shows of a record.
    package func attributes(_ inode: UInt64, _ record: InodeRecord) -> WireAttributes {
        let mount = record.mount == 0 ? nil : table.mountPoint(record.mount)
        let staged = record.staged == 0 ? nil : stagedFiles.withLock { $0 }?.attributes(of: record.staged)
        var record = record
        if let staged {
            record.attributes.size = staged.size
            record.attributes.blocks = staged.blocks
            record.attributes.modified = staged.modified
            record.attributes.changed = staged.changed
            // Others may change it at any time; once nobody writes, it is as lasting as any.
            record.expiry = staged.isBeingWritten ? 0 : MonotonicClock.now() &+ (mount?.metadataTTL ?? 0)
        }
        if isWrittenInPlace(inode) { record.expiry = 0 }
        return WireAttributes(
            inode, record, defaults: mount?.defaults ?? table.syntheticDefaults, now: MonotonicClock.now())
    }

    /// What tells of staged files; set once, before the first session.
    func attach(_ files: any StagedAttributes) { stagedFiles.withLock { $0 = files } }

    /// Whether a staged file, and not the store, has the truth of the record. One that the journal does not know is none.
    func isStaged(_ record: InodeRecord) -> Bool {
        record.staged != 0 && stagedFiles.withLock { $0 }?.attributes(of: record.staged) != nil
    }

    /// Whether no answer of the store replaces what is known of an inode.
    func isKept(_ inode: UInt64, _ record: InodeRecord) -> Bool {
        isStaged(record) || kept.withLock { $0[inode] != nil }
    }

    /// Whether a record is right without a look at the store. One that speaks of a staged file which is no more is none:
    /// its coordinator was killed between the end of the file and the namespace's. Nor is that of a file which is being
    /// written in place.
    private func isBelieved(_ inode: UInt64, _ record: InodeRecord, _ now: UInt64) -> Bool {
        record.staged == 0 ? record.expiry > now && !isWrittenInPlace(inode) : isStaged(record)
    }

    private func isWrittenInPlace(_ inode: UInt64) -> Bool {
        stagedFiles.withLock { $0 }?.isWrittenInPlace(inode) == true
    }

    /// Stops believing what is known of an inode; the next use asks the store. Tells the kernels.
    package func expire(_ inode: UInt64) {
        guard var record = index.record(inode), !isStaged(record) else { return }
        record.expiry = 0
        index.update { $0.setRecord(inode, record) }
        notify(names: [(record.parent, record.name)], inodes: [inode])
    }

    /// Finds a name by a look at the store, whatever is believed of it. Throws ESTALE (the directory is gone), or what the
    /// store's error maps to.
    func ask(
        parent: UInt64, directory: InodeRecord, name: ByteString, mount: MountPoint
    ) async throws(CoordinationError) -> Found {
        let path = try storePath(of: directory).appending(component: name)
        let asked = MonotonicClock.now()
        let attributes: ObjectAttributes?
        do { attributes = try await mount.store.lookup(path) } catch {
            tallies.note(error, of: mount.store.identity)
            throw CoordinationError(error)
        }
        let placed = index.update { transaction in
            place(
                parent: parent, name: name, attributes: attributes, asked: asked, mount: mount,
                transaction: transaction)
        }
        guard let placed else { throw CoordinationError(.staleNFSFileHandle, "the directory has been removed") }
        notify(names: placed.isNews ? [(parent, name)] : [], inodes: placed.changedInode.map { [$0] } ?? [])
        return placed.found
    }

    /// - Parameter origin: the session whose kernel has made the change itself.
    func notify(names: [(parent: UInt64, name: ByteString)], inodes: [UInt64], origin: UInt64? = nil) {
        guard !names.isEmpty || !inodes.isEmpty else { return }
        var message = WireInvalidate()
        message.inodes = inodes
        message.names = names.map { entry in
            var name = WireInvalidate.Name()
            name.parent = entry.parent
            name.name = entry.name.data
            return name
        }
        invalidate(message, origin)
    }
}

/// What the namespace asks of the files that are being written.
protocol StagedAttributes: Sendable {
    /// nil for a number that is not known (any more).
    func attributes(of staged: UInt64) -> LiveAttributes?
    /// Whether a local file is open for writing.
    func isWrittenInPlace(_ inode: UInt64) -> Bool
}

/// What a staged file says of itself.
struct LiveAttributes: Sendable {
    /// Bytes.
    var size: UInt64
    /// Allocated 512-byte units.
    var blocks: UInt64
    var modified, changed: FileTime
    /// Whether a session has it open for writing.
    var isBeingWritten: Bool
}
