import Coordination
import Glibc
import Platform
import SystemPackage
import UnderStores

extension LeaseService {
    /// How much a staged file may grow before the mount asks for room. On an ample disk some thirty of the largest writes,
    /// at 1 GB/s sixteen messages a second; on another little, because nothing is set aside for it.
    static let ampleRoom: UInt64 = 64 << 20
    static let scarceRoom: UInt64 = 512 << 10

    /// Grants an open for writing, and one for reading of what somebody writes. nil: it is an open as any.
    func openToWrite(
        _ open: Open, _ record: InodeRecord, _ leases: LeaseTable
    ) async throws(CoordinationError) -> Grant? {
        guard open.isWriting || open.staged != 0 || namespace.isStaged(record) else { return nil }
        guard record.attributes.kind == .file else {
            if record.attributes.kind == .directory {
                throw CoordinationError(.isDirectory, "\(record.name) is a directory")
            }
            return nil
        }
        let mount = try changes.writable(record)
        if let files = mount.store.fileWriting { return try await openSource(open, record, mount, files, leases) }
        return try await changes.locks.withClaims(changes.claims(on: open.inode)) {
            () async throws(CoordinationError) -> Grant? in
            try await openStaged(open, mount, leases)
        }
    }

    /// The caller has claimed the inode.
    private func openStaged(
        _ open: Open, _ mount: MountPoint, _ leases: LeaseTable
    ) async throws(CoordinationError) -> Grant? {
        let record = try namespace.record(open.inode)
        if open.staged != 0, record.staged != open.staged || !namespace.isStaged(record) {
            throw CoordinationError(.ioError, "the file that was being written is no longer known")
        }
        let file: StagedFile
        if open.staged != 0 {
            guard let claimed = changes.staging.claim(open.staged) else {
                throw CoordinationError(.ioError, "the file that was being written is no longer known")
            }
            file = claimed
        } else if open.isWriting {
            file = try await changes.written.stage(
                open.inode, record, mount: mount, isTruncated: open.flags & O_TRUNC != 0)
        } else {
            // Committed and finished meanwhile: read as any other.
            guard let known = changes.written.file(of: record), changes.staging.reopen(known) else { return nil }
            file = known
        }
        return try grant(file, open, try namespace.record(open.inode), mount, path: file.path, leases)
    }

    /// Grants an open of a file that was just made.
    func grant(
        _ created: ChangeService.Created, _ open: Open, _ leases: LeaseTable
    ) throws(CoordinationError) -> Grant {
        switch created.content {
        case .staged(let file):
            var grant = try grant(file, open, created.record, created.mount, path: created.path, leases)
            grant.opened.staged.isNew = true
            // Its journal record and its bytes in the page cache are all that a close has to leave behind.
            grant.opened.staged.closesUnasked = file.writeType.acknowledgesOnNode
            return grant
        case .source(let descriptor):
            return try grantSource(descriptor, open, created.record, created.mount, created.path, leases)
        }
    }

    private func grant(
        _ file: StagedFile, _ open: Open, _ record: InodeRecord, _ mount: MountPoint, path: ByteString,
        _ leases: LeaseTable
    ) throws(CoordinationError) -> Grant {
        let descriptor: Descriptor
        do throws(Errno) { descriptor = try file.descriptor() } catch {
            throw CoordinationError(error, "cannot open the staged file of \(path)")
        }
        let session = open.origin.session ?? 0
        let isWriting = open.isWriting || open.staged != 0
        let isShared = changes.written.isShared(file, beyond: session)
        changes.written.begin(file, session: session, isWriting: isWriting)
        let written = changes.written
        // Who only reads shares the backing id of the writers, or asks the mount.
        let isAmple = file.mayGrowUnasked
        let backing = isWriting && isAmple ? register(descriptor, open.device) : nil
        let lease = leases.add { number in
            Lease(
                number: number, inode: open.inode, mount: mount, path: path, record: record,
                mode: backing == nil ? "staged" : "passthrough", backing: .staged(file), isWriting: isWriting,
                backingID: backing,
                onClose: { written.end(file, session: session, isWriting: isWriting) })
        }
        guard let lease else {
            throw CoordinationError(.tooManyOpenFiles, "the session has ended or has too many open files")
        }
        var opened = WireOpened()
        opened.lease = lease.number
        opened.attributes = namespace.attributes(open.inode, record)
        opened.staged.number = file.number
        opened.staged.direct = isShared
        opened.staged.room = isAmple ? Self.ampleRoom : Self.scarceRoom
        if let backing { opened.staged.backingID = backing.number }
        return Grant(opened: opened, descriptors: [descriptor])
    }

    private func openSource(
        _ open: Open, _ record: InodeRecord, _ mount: MountPoint, _ files: any FileWriting, _ leases: LeaseTable
    ) async throws(CoordinationError) -> Grant {
        let path = try namespace.storePath(of: record)
        let identity = record.attributes.version.map { mount.store.fileIdentity(of: $0) }
        // Readers of the mount may share it, so it is readable where it may be.
        let shared = open.flags & O_ACCMODE == O_WRONLY ? open.flags & ~O_ACCMODE | O_RDWR : open.flags
        let descriptor = try await changes.filing { () async throws(FileFailure) in
            do throws(FileFailure) {
                return try await files.open(path, flags: shared, identity: identity, as: open.origin.caller)
            } catch {
                guard shared != open.flags, error.errorNumber == EACCES else { throw error }
                return try await files.open(path, flags: open.flags, identity: identity, as: open.origin.caller)
            }
        }
        if open.flags & O_TRUNC != 0 { try await refresh(open.inode, open.origin) }
        let record = try namespace.record(open.inode)
        let grant = try grantSource(descriptor, open, record, mount, path, leases)
        // The kernels of the other mounts may keep attributes that are about to change.
        if open.isWriting { namespace.notify(names: [], inodes: [open.inode], origin: open.origin.session) }
        return grant
    }

    /// Grants an open of a local file whose last name has gone after the caller had found it; nil when it is gone as well.
    func openNameless(_ open: Open, _ leases: LeaseTable) async throws(CoordinationError) -> Grant? {
        guard let entry = await changes.nameless(open.inode), let file = entry.file,
            let mount = try namespace.mountPoint(of: entry.record), let files = mount.store.fileWriting
        else { return nil }
        if open.isWriting { _ = try changes.writable(entry.record) }
        let descriptor = try await changes.filing { () async throws(FileFailure) in
            try await files.open(file, flags: open.flags, as: open.origin.caller)
        }
        return try grantSource(descriptor, open, entry.record, mount, entry.record.name, leases)
    }

    private func grantSource(
        _ descriptor: Descriptor, _ open: Open, _ record: InodeRecord, _ mount: MountPoint, _ path: ByteString,
        _ leases: LeaseTable
    ) throws(CoordinationError) -> Grant {
        let backing = register(descriptor, open.device)
        let written = changes.written
        if open.isWriting { written.beginInPlace(open.inode) }
        let lease = leases.add { number in
            Lease(
                number: number, inode: open.inode, mount: mount, path: path, record: record,
                mode: backing == nil ? "source" : "passthrough", backing: .source, isWriting: open.isWriting,
                backingID: backing, lentFile: open.isWriting || backing == nil ? descriptor : nil,
                onClose: { if open.isWriting { written.endInPlace(open.inode) } })
        }
        guard let lease else {
            throw CoordinationError(.tooManyOpenFiles, "the session has ended or has too many open files")
        }
        var opened = WireOpened()
        opened.lease = lease.number
        opened.attributes = namespace.attributes(open.inode, record)
        if let backing { opened.backingID = backing.number } else { opened.source = .init() }
        opened.keepCache = open.seen.map { $0 > record.changedAt } ?? false
        return Grant(opened: opened, descriptors: [descriptor])
    }

    // MARK: Commits

    /// close(2), or fsync(2), of what was written through a lease.
    func commit(
        _ lease: Lease, synchronize: Bool, written: Bool, _ origin: ChangeService.Origin
    ) async throws(CoordinationError) -> WireAttributes {
        switch lease.backing {
        case .staged(let file):
            if file.isCurrent, file.isDirty { try await changes.keepForReaders(lease.inode) }
            // What the kernel writes by itself, the mount does not see.
            _ = try await changes.staging.commit(
                file, synchronize ? .synchronize : .close, written: lease.isPassthrough ? nil : written)
        case .source where lease.isWriting: try await refresh(lease.inode, origin)
        default: break
        }
        let record = namespace.index.record(lease.inode) ?? lease.record
        return namespace.attributes(lease.inode, record)
    }

    /// Takes over what a local file is after writes, and tells the other kernels. A file that is gone is no error.
    private func refresh(_ inode: UInt64, _ origin: ChangeService.Origin) async throws(CoordinationError) {
        guard let record = namespace.index.record(inode), let mount = try namespace.mountPoint(of: record),
            let path = try? namespace.storePath(of: record)
        else { return }
        let found: ObjectAttributes?
        do { found = try await mount.store.lookup(path) } catch { throw CoordinationError(error) }
        guard let found, found.version != record.attributes.version,
            found.version.map({ mount.store.fileIdentity(of: $0) })
                == record.attributes.version.map({ mount.store.fileIdentity(of: $0) })
        else { return }
        let now = MonotonicClock.now()
        namespace.change(inode, origin: origin.session) { record in
            record.attributes = found
            record.isRewritten = true
            record.changedAt = now
            record.expiry = now &+ mount.metadataTTL
        }
    }

    /// Room for a staged file to grow.
    func reserve(_ lease: Lease, bytes: UInt64) async throws(CoordinationError) {
        guard case .staged(let file) = lease.backing else { return }
        try await changes.staging.reserve(file, bytes)
    }
}
