import Coordination
import Glibc
import Platform
import SystemPackage
import UnderStores

extension ChangeService {
    /// chmod, chown, utimensat and truncate of an inode.
    /// - Parameter file: the staged file or source file that the caller has open, for ftruncate(2).
    func change(
        _ inode: UInt64, _ change: AttributeChange, _ origin: Origin
    ) async throws(CoordinationError) -> Result {
        try await locks.withClaims(claims(on: inode)) { () async throws(CoordinationError) in
            let record = try await namespace.current(inode)
            let mount = try writable(record)
            let path = try namespace.storePath(of: record)
            let change = change.endingPrivileges(of: record, by: origin.caller)
            if let files = mount.store.fileWriting {
                let attributes = try await filing {
                    () async throws(FileFailure) in try await files.change(path, change, as: origin.caller)
                }
                let now = MonotonicClock.now()
                let changed = namespace.change(inode, origin: origin.session) { record in
                    record.isRewritten = record.isRewritten || change.size != nil
                    if change.size != nil { record.changedAt = now }
                    record.attributes = attributes
                    record.expiry = record.expiry == .max ? .max : now &+ mount.metadataTTL
                }
                return (inode, changed ?? record)
            }
            var size = change
            if let length = change.size, record.attributes.kind == .file {
                try await truncate(inode, record, to: length, mount)
                size.size = nil
            }
            try await changeObject(inode, try namespace.record(inode), size, mount, path, origin)
            return (inode, try namespace.record(inode))
        }
    }

    /// The same of an inode without a name.
    func changeNameless(
        _ inode: UInt64, _ entry: NamelessInodes.Entry, _ change: AttributeChange, _ origin: Origin
    ) async throws(CoordinationError) -> Result {
        let mount = try writable(entry.record)
        let change = change.endingPrivileges(of: entry.record, by: origin.caller)
        if let files = mount.store.fileWriting {
            guard let file = entry.file else {
                throw CoordinationError(.staleNFSFileHandle, "\(entry.record.name) has been removed")
            }
            let attributes = try await filing {
                () async throws(FileFailure) in try await files.change(file, change, as: origin.caller)
            }
            namespace.nameless.change(inode) { $0.attributes = attributes }
        } else {
            guard change.size == nil else {
                throw CoordinationError(.staleNFSFileHandle, "\(entry.record.name) has been removed")
            }
            var wanted = mount.metadata(of: entry.record)
            wanted.apply(change, to: entry.record)
            namespace.nameless.change(inode) { record in
                record.attributes = record.attributes.adding(wanted)
                record.attributes.accessed = wanted.accessed ?? record.attributes.accessed
                record.attributes.changed = .now()
            }
        }
        return (inode, namespace.nameless[inode]?.record ?? entry.record)
    }

    /// What is known of an inode without a name; nil when it has one, or nobody had it open when that went.
    func nameless(_ inode: UInt64) async -> NamelessInodes.Entry? {
        guard let entry = namespace.nameless[inode], namespace.index.record(inode) == nil else { return nil }
        if let file = entry.file, let mount = try? namespace.mountPoint(of: entry.record),
            let found = try? await mount.store.fileWriting?.attributes(of: file)
        {
            namespace.nameless.change(inode) { $0.attributes = found }
        }
        return namespace.nameless[inode] ?? entry
    }

    func claims(on inode: UInt64) throws(CoordinationError) -> ChangeLocks.Claims {
        var claims = ChangeLocks.Claims()
        claims.exclusive = [.inode(inode)]
        claims.shared = Set(namespace.ancestors(of: try namespace.record(inode)).map { .tree($0) })
        return claims
    }

    /// truncate(2) of an object: as an open, ftruncate and close. The caller has claimed the inode.
    private func truncate(
        _ inode: UInt64, _ record: InodeRecord, to size: UInt64, _ mount: MountPoint
    ) async throws(CoordinationError) {
        let file = try await written.stage(inode, record, mount: mount, isTruncated: size == 0)
        do throws(Errno) { try file.truncate(to: size) } catch {
            throw CoordinationError(error, "cannot truncate \(file.path)")
        }
        try await written.commitUnopened(file)
    }

    private func changeObject(
        _ inode: UInt64, _ record: InodeRecord, _ change: AttributeChange, _ mount: MountPoint, _ path: ByteString,
        _ origin: Origin
    ) async throws(CoordinationError) {
        guard change != AttributeChange() else { return }
        guard record.parent != 0 else {
            throw CoordinationError(.notPermitted, "the root of \(mount.source) has no attributes of its own")
        }
        let objects = try objects(mount)
        var changed = mount.metadata(of: record)
        changed.apply(change, to: record)
        let wanted = changed
        if let file = written.file(of: record), try await staging.setMetadata(file, wanted) {
            // The next commit brings it.
        } else if record.attributes.kind == .directory {
            _ = try await storing(mount) { () async throws(StoreError) in
                try await objects.makeDirectory(path, wanted)
            }
        } else {
            try await rewrite(inode, record, mount, path, origin) { metadata in
                metadata.mode = wanted.mode
                metadata.uid = wanted.uid
                metadata.gid = wanted.gid
                metadata.modified = wanted.modified
                metadata.accessed = wanted.accessed ?? metadata.accessed
            }
        }
        namespace.change(inode, origin: origin.session) { record in
            record.attributes = record.attributes.adding(wanted)
            record.attributes.accessed = wanted.accessed ?? record.attributes.accessed
            record.attributes.changed = .now()
            if record.attributes.kind == .directory { record.hasMarker = true }
        }
    }

    /// Changes what is written beside an object that no staged file stands for; what others stored there stays.
    private func rewrite(
        _ inode: UInt64, _ record: InodeRecord, _ mount: MountPoint, _ path: ByteString, _ origin: Origin,
        _ change: @Sendable (inout WrittenMetadata) -> Void
    ) async throws(CoordinationError) {
        let objects = try objects(mount)
        let version = record.attributes.version
        try await namespace.keeping([inode]) { () async throws(CoordinationError) in
            let metadata = try await storing(mount) { () async throws(StoreError) in
                var metadata = try await objects.metadata(of: path)?.metadata ?? mount.metadata(of: record)
                change(&metadata)
                return metadata
            }
            try intend(mount, path, of: (inode, record), giving: metadata, origin)
            let copied = try await storing(mount) { () async throws(StoreError) in
                try await objects.copy(
                    path, expecting: version, to: path, metadata: metadata,
                    if: version.map { .version($0) } ?? .none)
            }
            await written.keepCached(
                mount, from: path, version, to: path, copied.version, size: record.attributes.size)
            replaced(inode, by: copied, mount, origin)
        }
    }

    /// The object has the same bytes under another version; a staged file that has just finished knows only the former.
    private func replaced(_ inode: UInt64, by copied: ObjectAttributes, _ mount: MountPoint, _ origin: Origin) {
        let expiry = MonotonicClock.now() &+ mount.metadataTTL
        namespace.change(inode, origin: origin.session, isTold: false) { record in
            record.attributes.version = copied.version
            guard record.staged != 0 else { return }
            record.staged = 0
            record.expiry = expiry
        }
    }

    // MARK: Extended attributes

    /// Names of user xattrs begin so.
    private static let userPrefix = ByteString("user.")
    /// XATTR_CREATE and XATTR_REPLACE of setxattr(2), whose macros Swift does not see.
    private static let creates: CInt = 1
    private static let replaces: CInt = 2
    /// Larder's own, which nobody sets.
    private static let ownPrefix = ByteString("user.larder.")

    func extendedAttribute(
        _ inode: UInt64, _ name: ByteString, _ caller: Caller
    ) async throws(CoordinationError) -> ByteString {
        let (record, mount, path) = try await known(inode)
        if let files = mount?.store.fileWriting {
            return try await filing {
                () async throws(FileFailure) in try await files.extendedAttribute(path, name, as: caller)
            }
        }
        guard let mount, name.hasPrefix(Self.userPrefix), let value = try await attributes(record, mount, path)[name]
        else { throw CoordinationError(.noData, "no such attribute") }
        return value
    }

    func extendedAttributes(_ inode: UInt64, _ caller: Caller) async throws(CoordinationError) -> [ByteString] {
        let (record, mount, path) = try await known(inode)
        if let files = mount?.store.fileWriting {
            return try await filing {
                () async throws(FileFailure) in try await files.extendedAttributes(path, as: caller)
            }
        }
        guard let mount else { return [] }
        return try await attributes(record, mount, path).keys.sorted()
    }

    /// setxattr(2); `value` nil is removexattr(2).
    /// - Parameter flags: XATTR_CREATE, XATTR_REPLACE.
    func setExtendedAttribute(
        _ inode: UInt64, _ name: ByteString, _ value: ByteString?, flags: CInt, _ origin: Origin
    ) async throws(CoordinationError) {
        guard !name.hasPrefix(Self.ownPrefix) else {
            throw CoordinationError(.notPermitted, "\(name) is Larder's own and cannot be changed")
        }
        try await locks.withClaims(claims(on: inode)) { () async throws(CoordinationError) in
            let (record, found, path) = try await known(inode)
            guard let mount = found, try writable(record).number == mount.number else { return }
            let isRepeated = earlier(origin) != nil
            if let files = mount.store.fileWriting {
                if flags != 0 || value == nil, !isRepeated {
                    let isSet = (try? await files.extendedAttribute(path, name, as: origin.caller)) != nil
                    // Else the call itself says what is wrong.
                    if isSet == (flags & Self.creates == 0) { try intend(mount, path, of: (inode, record), origin) }
                }
                try await filing {
                    () async throws(FileFailure) in
                    if let value {
                        let flags = isRepeated ? flags & ~Self.creates : flags
                        try await files.setExtendedAttribute(path, name, value, flags: flags, as: origin.caller)
                        return
                    }
                    do throws(FileFailure) {
                        try await files.removeExtendedAttribute(path, name, as: origin.caller)
                    } catch {
                        guard isRepeated, error.errorNumber == ENODATA else { throw error }
                    }
                }
                namespace.change(inode, origin: origin.session) { $0.expiry = $0.expiry == .max ? .max : 0 }
                return
            }
            guard name.hasPrefix(Self.userPrefix) else {
                throw CoordinationError(.notSupported, "\(mount.source) keeps attributes named user.… only")
            }
            guard record.parent != 0 else {
                throw CoordinationError(.notPermitted, "the root of \(mount.source) has no attributes of its own")
            }
            var all = try await attributes(record, mount, path)
            if isRepeated, all[name] == value { return }
            if flags & Self.creates != 0, all[name] != nil {
                throw CoordinationError(.fileExists, "\(name) is set already")
            }
            if flags & Self.replaces != 0 || value == nil, all[name] == nil {
                throw CoordinationError(.noData, "no such attribute")
            }
            all[name] = value
            guard value == nil || Self.leastStoredSize(of: all) <= Self.mostStoredSize else {
                throw CoordinationError(
                    .noSpace, "\(record.name) has no room for \(name): a store keeps 2 KiB of metadata with an object")
            }
            try await store(all, inode, record, mount, path, origin)
        }
    }

    /// "Object metadata" (Amazon S3 User Guide).
    private static let mostStoredSize = 2048

    /// The bytes that extended attributes take at least beside an object, as names and Base64 with their punctuation.
    private static func leastStoredSize(of attributes: [ByteString: ByteString]) -> Int {
        attributes.reduce(6) { $0 + 15 + $1.key.count + ($1.value.count + 2) / 3 * 4 }
    }

    private func known(
        _ inode: UInt64
    ) async throws(CoordinationError) -> (record: InodeRecord, mount: MountPoint?, path: ByteString) {
        let record = try await namespace.current(inode)
        return (record, try namespace.mountPoint(of: record), try namespace.storePath(of: record))
    }

    /// By whole name.
    private func attributes(
        _ record: InodeRecord, _ mount: MountPoint, _ path: ByteString
    ) async throws(CoordinationError) -> [ByteString: ByteString] {
        let plain: [ByteString: ByteString]
        if let file = written.file(of: record) {
            plain = file.target.metadata.extendedAttributes
        } else if let objects = mount.store.objectWriting, record.parent != 0 {
            let isDirectory = record.attributes.kind == .directory
            plain = try await storing(mount) { () async throws(StoreError) in
                // A directory without an object of its own has none.
                try await objects.metadata(of: isDirectory ? path + "/" : path)?.metadata.extendedAttributes ?? [:]
            }
        } else {
            plain = [:]
        }
        return Dictionary(uniqueKeysWithValues: plain.map { (Self.userPrefix + $0.key, $0.value) })
    }

    private func store(
        _ all: [ByteString: ByteString], _ inode: UInt64, _ record: InodeRecord, _ mount: MountPoint,
        _ path: ByteString, _ origin: Origin
    ) async throws(CoordinationError) {
        let objects = try objects(mount)
        let plain = Dictionary(
            uniqueKeysWithValues: all.map { (ByteString($0.key.bytes.dropFirst(Self.userPrefix.count)), $0.value) })
        if let file = written.file(of: record) {
            var metadata = file.target.metadata
            metadata.extendedAttributes = plain
            try intend(mount, path, of: (inode, record), origin)
            if try await staging.setMetadata(file, metadata) { return }
        }
        if record.attributes.kind == .directory {
            var metadata = mount.metadata(of: record)
            metadata.extendedAttributes = plain
            try intend(mount, path, of: (inode, record), origin)
            _ = try await storing(mount) { () async throws(StoreError) in
                try await objects.makeDirectory(path, metadata)
            }
            namespace.change(inode, origin: origin.session) { $0.hasMarker = true }
            return
        }
        try await rewrite(inode, record, mount, path, origin) { $0.extendedAttributes = plain }
        namespace.change(inode, origin: origin.session) { $0.attributes.changed = .now() }
    }
}

extension AttributeChange {
    /// With the set-user-ID and set-group-ID bits ended that the kernel leaves to the file system to end: at a change of
    /// owner, and when somebody without privileges changes the bytes (chown(2), inode(7)).
    fileprivate func endingPrivileges(of record: InodeRecord, by caller: Caller) -> AttributeChange {
        guard record.attributes.kind == .file, let held = permissions ?? record.attributes.permissions else {
            return self
        }
        let isOwned = permissions == nil && (uid != nil || gid != nil)
        guard isOwned || (size != nil && caller.uid != 0) else { return self }
        var kept = held & ~S_ISUID
        if held & S_IXGRP != 0 { kept &= ~S_ISGID }
        guard kept != held else { return self }
        var change = self
        change.permissions = kept
        return change
    }
}

extension WrittenMetadata {
    /// As the kernel has decided; it has cleared what set-id bits a chown clears.
    mutating func apply(_ change: AttributeChange, to record: InodeRecord) {
        if let permissions = change.permissions { mode = (mode ?? 0) & ~0o7777 | permissions & 0o7777 }
        uid = change.uid ?? uid
        gid = change.gid ?? gid
        func time(_ change: AttributeChange.TimeChange?) -> FileTime? {
            switch change {
            case .now: .now()
            case .at(let time): time
            case nil: nil
            }
        }
        modified = time(change.modified) ?? modified
        accessed = time(change.accessed)
    }
}
