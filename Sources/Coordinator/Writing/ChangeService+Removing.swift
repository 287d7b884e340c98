import BlockCaching
import Coordination
import Glibc
import Platform
import SystemPackage
import UnderStores

extension ChangeService {
    /// unlink(2). Open files go on: on a store that loses the bytes, what they read is fetched whole before.
    func removeFile(_ parent: UInt64, _ name: ByteString, _ origin: Origin) async throws(CoordinationError) {
        try await withPlace(parent, name) { (place) async throws(CoordinationError) in
            if try await isRemoved(place, origin) { return }
            let (inode, record) = try await existing(place)
            guard record.attributes.kind != .directory else {
                throw CoordinationError(.isDirectory, "\(place.path) is a directory")
            }
            try intend(place.mount, place.path, of: (inode, record), origin)
            if let files = place.mount.store.fileWriting {
                let held = await hold(inode, record, place.path, files)
                try await filing {
                    () async throws(FileFailure) in try await files.remove(place.path, as: origin.caller)
                }
                noteNameless(inode, record, held)
                if record.attributes.links > 1 {
                    namespace.unlink(inode, name, in: parent, mount: place.mount, origin: origin.session)
                } else {
                    namespace.remove(name, in: parent, mount: place.mount, origin: origin.session)
                }
                return
            }
            try await locks.withClaims(ChangeLocks.Claims(names: [], inodes: [inode]), isNested: true) {
                () async throws(CoordinationError) in
                try await removeObject(place, inode, origin)
            }
        }
    }

    /// The caller has claimed the inode.
    private func removeObject(_ place: Place, _ inode: UInt64, _ origin: Origin) async throws(CoordinationError) {
        let objects = try objects(place.mount)
        let record = try namespace.record(inode)
        let staged = written.file(of: record)
        try await staging.holding(staged.map { [$0] } ?? []) { () async throws(CoordinationError) in
            // It may have ended with the commit that was waited for.
            let file = staged.flatMap { $0.isCurrent ? $0 : nil }
            if file?.base != .absent {
                try await keepForReaders(inode)
                try await keepDirectory(place, objects)
                if let file { try await staging.note(isLeaving: true, file) }
                do throws(CoordinationError) {
                    try await storing(place.mount) { () async throws(StoreError) in
                        try await objects.remove(place.path, if: .none)
                    }
                } catch {
                    if let file { try await staging.note(isLeaving: false, file) }
                    throw error
                }
            }
            if let file { await written.abandon(file) }
            noteNameless(inode, record, nil)
            namespace.remove(place.name, in: place.parent, mount: place.mount, origin: origin.session)
        }
    }

    /// What remains of a file when its last name goes, for who has it open; nil when nobody has.
    func hold(_ inode: UInt64, _ record: InodeRecord, _ path: ByteString, _ files: any FileWriting) async -> Descriptor?
    {
        guard record.attributes.links <= 1, written.isOpen(inode) else { return nil }
        return try? await files.hold(path)
    }

    /// The last name of an inode is gone.
    func noteNameless(_ inode: UInt64, _ record: InodeRecord, _ held: Descriptor?) {
        let isDirectory = record.attributes.kind == .directory
        guard isDirectory || record.attributes.links <= 1 && (held != nil || written.isOpen(inode)) else { return }
        namespace.nameless.add(inode, record, file: held, isOpen: written.isOpen)
    }

    /// rmdir(2).
    func removeDirectory(_ parent: UInt64, _ name: ByteString, _ origin: Origin) async throws(CoordinationError) {
        let place = try place(parent, name)
        if try await isRemoved(place, origin) { return }
        let (directory, found) = try await existing(place)
        guard found.attributes.kind == .directory else {
            throw CoordinationError(.notDirectory, "\(place.path) is not a directory")
        }
        try await withPlace(parent, name, trees: [directory]) { (place) async throws(CoordinationError) in
            let (standing, record) = try await existing(place)
            guard standing == directory else {
                throw CoordinationError(.noSuchFileOrDirectory, "\(place.path) does not exist")
            }
            if let files = place.mount.store.fileWriting {
                try intend(place.mount, place.path, of: (directory, record), origin)
                try await filing {
                    () async throws(FileFailure) in try await files.removeDirectory(place.path, as: origin.caller)
                }
            } else {
                let objects = try objects(place.mount)
                try await requireEmpty(directory, place)
                try intend(place.mount, place.path, of: (directory, record), origin)
                try await keepDirectory(place, objects)
                try await storing(place.mount) { () async throws(StoreError) in
                    try await objects.removeDirectory(place.path)
                }
            }
            noteNameless(directory, record, nil)
            namespace.remove(name, in: parent, mount: place.mount, origin: origin.session)
        }
    }

    /// Throws ENOTEMPTY when the store, or what it does not have yet, has a name in the directory.
    func requireEmpty(_ directory: UInt64, _ place: Place) async throws(CoordinationError) {
        var isEmpty = !namespace.table.overlays(in: directory).keys.contains { _ in true }
        var cursor: ByteString?
        while isEmpty {
            let known = namespace.index.children(of: directory, after: cursor, limit: 1000)
            if known.contains(where: { namespace.isStaged($0.record) }) { isEmpty = false }
            guard known.count == 1000 else { break }
            cursor = known.last?.name
        }
        let listing = place.mount.store.list(place.path)
        while isEmpty {
            let page = try await storing(place.mount) { () async throws(StoreError) -> ListingPage? in
                do throws(StoreError) { return try await listing.nextPage() } catch {
                    if error.kind == .notFound { return nil }
                    throw error
                }
            }
            guard let page else { return }
            isEmpty = page.entries.isEmpty && page.unnameable == 0
        }
        throw CoordinationError(.directoryNotEmpty, "\(place.path) is not empty")
    }

    /// A directory that exists only by its entries gets an object of its own before it loses one.
    func keepDirectory(_ place: Place, _ objects: any ObjectWriting) async throws(CoordinationError) {
        let directory = try namespace.record(place.parent)
        guard !directory.hasMarker, directory.parent != 0 else { return }
        let path = try namespace.storePath(of: directory)
        let metadata = place.mount.metadata(of: directory)
        _ = try await storing(place.mount) { () async throws(StoreError) in
            try await objects.makeDirectory(path, metadata)
        }
        namespace.change(place.parent, origin: nil, isTold: false) { $0.hasMarker = true }
    }

    /// Before an object changes its bytes or goes: brings the rest of what open readers of it may still ask for.
    func keepForReaders(_ inode: UInt64) async throws(CoordinationError) {
        for object in written.readers(of: inode) where !object.isComplete {
            do { _ = try await object.ensure(0..<object.id.size, urgency: .demand) } catch {
                logger.warning(
                    "open readers of a file that is removed or replaced may lose its bytes",
                    metadata: ["key": "\(object.id.key)", "reason": "\(error)"])
            }
        }
    }
}

extension MountPoint {
    /// What is written beside an object that a record stands for.
    func metadata(of record: InodeRecord) -> WrittenMetadata {
        let attributes = record.attributes
        var metadata = WrittenMetadata()
        let type: UInt32 =
            switch attributes.kind {
            case .directory: S_IFDIR
            case .symbolicLink: S_IFLNK
            case .file, .special: S_IFREG
            }
        let usual = attributes.kind == .directory ? defaults.directoryMode : defaults.fileMode
        metadata.mode = type | (attributes.permissions ?? usual)
        metadata.uid = attributes.uid ?? defaults.uid
        metadata.gid = attributes.gid ?? defaults.gid
        metadata.modified = attributes.modified
        return metadata
    }
}
