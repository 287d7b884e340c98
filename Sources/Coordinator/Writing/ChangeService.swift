import Coordination
import Glibc
import Logging
import Platform
import SystemPackage
import UnderStores

/// Changes names, attributes and links on every kind of store: takes the locks, changes the store, then the index, and
/// tells the other kernels. What a file contains is the business of leases and of `StagingService`.
///
/// Every function throws what the system call of its name would: EROFS, ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY,
/// ENAMETOOLONG, EBUSY (a mount point), EPERM (the store has no such thing), or what the store's error maps to.
final class ChangeService: Sendable {
    let namespace: Namespace
    let written: WrittenFiles
    let staging: StagingService
    let journal: Journal
    let locks: ChangeLocks
    let logger: Logger

    init(
        namespace: Namespace, written: WrittenFiles, staging: StagingService, journal: Journal, locks: ChangeLocks,
        logger: Logger
    ) {
        self.namespace = namespace
        self.written = written
        self.staging = staging
        self.journal = journal
        self.locks = locks
        self.logger = logger
    }

    /// Who asked for a change.
    struct Origin: Sendable {
        /// The session, whose kernel makes the change itself.
        let session: UInt64?
        let caller: Caller
        /// By what the client knows the change, if it may send it again.
        var operation: OperationLog.Key?
    }

    /// A name, and what a change of it needs to know.
    struct Place: Sendable {
        let parent: UInt64
        let directory: InodeRecord
        let name: ByteString
        let mount: MountPoint
        /// Of the name, within the store.
        let path: ByteString
        let ancestors: [UInt64]
    }

    /// What a changed name or inode is now.
    typealias Result = (inode: UInt64, record: InodeRecord)

    func place(_ parent: UInt64, _ name: ByteString) throws(CoordinationError) -> Place {
        guard name.count <= 255 else { throw CoordinationError(.fileNameTooLong, "a name has at most 255 bytes") }
        guard name.isNameable else { throw CoordinationError(.invalidArgument, "\(name) is no name") }
        let directory = try namespace.record(parent)
        guard directory.attributes.kind == .directory else {
            throw CoordinationError(.notDirectory, "\(directory.name) is not a directory")
        }
        guard namespace.table.overlay(in: parent, named: name) == nil else {
            throw CoordinationError(.resourceBusy, "\(name) leads to a mount point")
        }
        let mount = try writable(directory)
        return Place(
            parent: parent, directory: directory, name: name, mount: mount,
            path: try namespace.storePath(of: directory).appending(component: name),
            ancestors: namespace.ancestors(of: directory))
    }

    /// The mount point of a record that is to be changed.
    func writable(_ record: InodeRecord) throws(CoordinationError) -> MountPoint {
        guard let mount = try namespace.mountPoint(of: record) else {
            throw CoordinationError(.readOnlyFileSystem, "directories that lead to mount points cannot be changed")
        }
        guard !mount.isReadOnly, mount.store.objectWriting != nil || mount.store.fileWriting != nil else {
            throw CoordinationError(.readOnlyFileSystem, "\(mount.source) is mounted read-only")
        }
        return mount
    }

    /// What a change in a directory of a store of files has made of the directory: its links and times.
    func refresh(_ directory: UInt64, _ mount: MountPoint) async {
        guard mount.store.fileWriting != nil, let record = namespace.index.record(directory),
            let path = namespace.index.path(of: record), let found = try? await mount.store.lookup(path)
        else { return }
        namespace.change(directory, origin: nil, isTold: false) { $0.attributes = found }
    }

    /// Runs `body` while nobody else changes the name, with the place as it is then.
    func withPlace<Value: Sendable>(
        _ parent: UInt64, _ name: ByteString, trees: [UInt64] = [], inodes: [UInt64] = [],
        _ body: (Place) async throws(CoordinationError) -> Value
    ) async throws(CoordinationError) -> Value {
        let place = try place(parent, name)
        let claims = ChangeLocks.Claims(
            names: [(parent, name, place.ancestors)], trees: trees, inodes: inodes)
        return try await locks.withClaims(claims) { () async throws(CoordinationError) in
            // A directory above may have been renamed while this waited.
            let value = try await body(try self.place(parent, name))
            await refresh(parent, place.mount)
            return value
        }
    }

    /// What stands under a name now. Throws ENOENT.
    func existing(_ place: Place) async throws(CoordinationError) -> Result {
        guard case .inode(let inode, let record) = try await namespace.lookup(parent: place.parent, name: place.name)
        else { throw CoordinationError(.noSuchFileOrDirectory, "\(place.path) does not exist") }
        return (inode, record)
    }

    /// Throws EEXIST.
    func requireAbsent(_ place: Place) async throws(CoordinationError) {
        if case .inode = try await namespace.lookup(parent: place.parent, name: place.name) {
            throw CoordinationError(.fileExists, "\(place.path) exists")
        }
    }

    // MARK: Creating

    func makeDirectory(
        _ parent: UInt64, _ name: ByteString, mode: UInt32, _ origin: Origin
    ) async throws(CoordinationError) -> Result {
        try await withPlace(parent, name) { (place) async throws(CoordinationError) in
            if let made = try await made(place, origin, { $0.attributes.kind == .directory }) { return made }
            let now = MonotonicClock.now()
            if let files = place.mount.store.fileWriting {
                try await intendCreation(place, origin)
                let made = try await filing {
                    () async throws(FileFailure) in
                    try await files.makeDirectory(place.path, mode: mode, as: origin.caller)
                }
                return namespace.add(made, as: name, in: parent, mount: place.mount, origin: origin.session)
            }
            let objects = try objects(place.mount)
            try await requireAbsent(place)
            try await intendCreation(place, origin)
            let metadata = newMetadata(place, S_IFDIR | mode & 0o7777, origin)
            let made = try await storing(place.mount) { () async throws(StoreError) in
                try await objects.makeDirectory(place.path, metadata)
            }
            return namespace.add(
                made.adding(metadata), as: name, in: parent, mount: place.mount, origin: origin.session
            ) {
                $0.hasMarker = true
                // Nothing is in it, so all that it holds is known.
                $0.listedUntil = now &+ place.mount.metadataTTL
            }
        }
    }

    /// A pipe, socket or device; a regular file goes the way of `create`.
    func makeNode(
        _ parent: UInt64, _ name: ByteString, mode: UInt32, device: UInt64, _ origin: Origin
    ) async throws(CoordinationError) -> Result {
        try await withPlace(parent, name) { (place) async throws(CoordinationError) in
            if let made = try await made(place, origin, { $0.isNode(mode) }) {
                if let file = written.file(of: made.record) { try await commitUnopened(file) }
                return made
            }
            if let files = place.mount.store.fileWriting {
                try await intendCreation(place, origin)
                let made = try await filing {
                    () async throws(FileFailure) in
                    try await files.makeNode(place.path, mode: mode, device: device, as: origin.caller)
                }
                return namespace.add(made, as: name, in: parent, mount: place.mount, origin: origin.session)
            }
            guard mode & S_IFMT == S_IFREG || mode & S_IFMT == 0 else {
                throw CoordinationError(.notPermitted, "\(place.mount.source) has no devices, pipes and sockets")
            }
            try await requireAbsent(place)
            try await intendCreation(place, origin)
            var unanswered = origin
            // It is answered when it is in the store.
            unanswered.operation = nil
            let created = try await createStaged(place, mode: mode, unanswered)
            try await commitUnopened(created.file)
            return (created.inode, try namespace.record(created.inode))
        }
    }

    private func commitUnopened(_ file: StagedFile) async throws(CoordinationError) {
        try await locks.withClaims(ChangeLocks.Claims(names: [], inodes: [file.inode]), isNested: true) {
            () async throws(CoordinationError) in
            try await written.commitUnopened(file)
        }
    }

    func makeLink(
        _ parent: UInt64, _ name: ByteString, target: ByteString, _ origin: Origin
    ) async throws(CoordinationError) -> Result {
        try await withPlace(parent, name) { (place) async throws(CoordinationError) in
            if let made = try await made(place, origin, { $0.attributes.kind == .symbolicLink }),
                (try? await place.mount.store.readLink(place.path)) == target
            {
                return made
            }
            if let files = place.mount.store.fileWriting {
                try await intendCreation(place, origin)
                let made = try await filing {
                    () async throws(FileFailure) in
                    try await files.makeLink(place.path, target: target, as: origin.caller)
                }
                return namespace.add(made, as: name, in: parent, mount: place.mount, origin: origin.session)
            }
            let objects = try objects(place.mount)
            try await requireAbsent(place)
            try await intendCreation(place, origin)
            let metadata = newMetadata(place, S_IFLNK | 0o777, origin)
            let made = try await storing(place.mount) { () async throws(StoreError) in
                try await objects.makeLink(place.path, target: target, metadata, if: .absent)
            }
            return namespace.add(
                made.adding(metadata), as: name, in: parent, mount: place.mount, origin: origin.session)
        }
    }

    /// link(2). EPERM where the store has no hard links.
    func makeHardLink(
        to inode: UInt64, _ parent: UInt64, _ name: ByteString, _ origin: Origin
    ) async throws(CoordinationError) -> Result {
        try await withPlace(parent, name, inodes: [inode]) { (place) async throws(CoordinationError) in
            let record = try namespace.record(inode)
            guard record.mount == place.mount.number else {
                throw CoordinationError(.improperLink, "a hard link cannot lead to another store")
            }
            guard let files = place.mount.store.fileWriting else {
                throw CoordinationError(.notPermitted, "\(place.mount.source) has no hard links")
            }
            let existing = try namespace.storePath(of: record)
            if let made = try await made(place, origin, { isOneFile($0, record, place.mount) }) {
                return try namespace.link(
                    inode, made.record.attributes, as: name, in: parent, mount: place.mount, origin: origin.session)
            }
            try await intendCreation(place, origin)
            let made = try await filing {
                () async throws(FileFailure) in
                try await files.makeHardLink(place.path, to: existing, as: origin.caller)
            }
            return try namespace.link(inode, made, as: name, in: parent, mount: place.mount, origin: origin.session)
        }
    }

    private func isOneFile(_ one: InodeRecord, _ other: InodeRecord, _ mount: MountPoint) -> Bool {
        one.attributes.version != nil && mount.identity(of: one.attributes) == mount.identity(of: other.attributes)
    }

    // MARK: Errors and metadata

    func objects(_ mount: MountPoint) throws(CoordinationError) -> any ObjectWriting {
        guard let objects = mount.store.objectWriting else {
            throw CoordinationError(.readOnlyFileSystem, "\(mount.source) cannot be written")
        }
        return objects
    }

    /// Runs a change of an object store; its errors become the application's.
    func storing<Value: Sendable>(
        _ mount: MountPoint, _ body: () async throws(StoreError) -> Value
    ) async throws(CoordinationError) -> Value {
        do throws(StoreError) { return try await body() } catch {
            namespace.tallies.note(error, of: mount.store.identity)
            throw CoordinationError(error)
        }
    }

    /// Runs a change of a store of files; the errno is the application's.
    func filing<Value: Sendable>(
        _ body: () async throws(FileFailure) -> Value
    ) async throws(CoordinationError) -> Value {
        do throws(FileFailure) { return try await body() } catch {
            throw CoordinationError(Errno(rawValue: error.errorNumber), error.message)
        }
    }

    /// Of a new object: the caller's, but in a set-group-ID directory of the directory's group (open(2), mkdir(2)).
    func newMetadata(_ place: Place, _ mode: UInt32, _ origin: Origin) -> WrittenMetadata {
        var metadata = WrittenMetadata()
        metadata.mode = mode
        metadata.uid = origin.caller.uid
        metadata.gid = origin.caller.gid
        metadata.modified = .now()
        let above = place.directory.attributes
        if (above.permissions ?? 0) & S_ISGID != 0 {
            metadata.gid = above.gid ?? place.mount.defaults.gid
            if mode & S_IFMT == S_IFDIR { metadata.mode = mode | S_ISGID }
        }
        return metadata
    }
}

extension InodeRecord {
    /// Whether it may be what mknod(2) makes with this mode.
    fileprivate func isNode(_ mode: UInt32) -> Bool {
        let type = mode & S_IFMT == 0 ? S_IFREG : mode & S_IFMT
        return switch attributes.kind {
        case .file: type == S_IFREG
        case .special: attributes.specialMode.map { $0 & S_IFMT == type } ?? false
        case .directory, .symbolicLink: false
        }
    }
}

extension ObjectAttributes {
    /// With what was written beside the object.
    func adding(_ metadata: WrittenMetadata) -> ObjectAttributes {
        var attributes = self
        attributes.permissions = metadata.mode.map { $0 & 0o7777 } ?? permissions
        attributes.uid = metadata.uid ?? uid
        attributes.gid = metadata.gid ?? gid
        attributes.modified = metadata.modified ?? modified
        attributes.isPartial = false
        return attributes
    }
}
