import Coordination
import Glibc
import Platform
import SystemPackage
import UnderStores

extension ChangeService {
    /// A file that was made, and what it is written with.
    struct Created: Sendable {
        enum Content: Sendable {
            case staged(StagedFile)
            case source(Descriptor)
        }
        let inode: UInt64
        let record: InodeRecord
        let mount: MountPoint
        let path: ByteString
        let content: Content
    }

    /// open(2) with O_CREAT | O_EXCL.
    /// - Parameter flags: O_ACCMODE and O_APPEND of the open.
    func create(
        _ parent: UInt64, _ name: ByteString, mode: UInt32, flags: CInt, _ origin: Origin
    ) async throws(CoordinationError) -> Created {
        try await withPlace(parent, name) { (place) async throws(CoordinationError) in
            if let files = place.mount.store.fileWriting {
                if let made = try await made(place, origin, { $0.attributes.kind == .file }) {
                    let descriptor = try await filing { () async throws(FileFailure) in
                        try await files.open(place.path, flags: flags, identity: nil, as: origin.caller)
                    }
                    return Created(
                        inode: made.inode, record: made.record, mount: place.mount, path: place.path,
                        content: .source(descriptor))
                }
                try await intendCreation(place, origin)
                let (descriptor, attributes) = try await filing {
                    () async throws(FileFailure) in
                    try await files.create(place.path, flags: flags, mode: mode, as: origin.caller)
                }
                let (inode, record) = namespace.add(
                    attributes, as: name, in: parent, mount: place.mount, origin: origin.session)
                return Created(
                    inode: inode, record: record, mount: place.mount, path: place.path, content: .source(descriptor))
            }
            try await requireAbsent(place)
            let (inode, record, file) = try await createStaged(place, mode: mode, origin)
            return Created(
                inode: inode, record: record, mount: place.mount, path: place.path, content: .staged(file))
        }
    }

    /// A new file of an object store: it is in the namespace at once, and in the store once it is committed.
    func createStaged(
        _ place: Place, mode: UInt32, _ origin: Origin
    ) async throws(CoordinationError) -> (inode: UInt64, record: InodeRecord, file: StagedFile) {
        let objects = try objects(place.mount)
        guard place.path.count <= objects.limits.longestKey else {
            throw CoordinationError(.fileNameTooLong, "a key has at most \(objects.limits.longestKey) bytes")
        }
        let inode = namespace.index.allocateInode()
        var metadata = newMetadata(place, S_IFREG | mode & 0o7777, origin)
        // The new file's own time is as good, and need not be set.
        metadata.modified = nil
        let file = try await staging.create(
            StagedTarget(
                store: objects, path: place.path, base: .absent, metadata: metadata,
                writeType: place.mount.writeType(of: place.path), inode: inode), for: origin.operation)
        let attributes = ObjectAttributes(kind: .file, modified: metadata.modified ?? .now()).adding(metadata)
        let (_, record) = namespace.add(
            attributes, as: place.name, in: place.parent, inode: inode, mount: place.mount, origin: origin.session
        ) { record in
            record.staged = file.number
            record.expiry = .max
        }
        return (inode, record, file)
    }
}

extension StagedFile {
    /// ftruncate(2). Blocks on the disk.
    func truncate(to size: UInt64) throws(Errno) {
        let file = try descriptor()
        guard ftruncate(file.raw, off_t(clamping: size)) == 0 else { throw Errno(rawValue: errno) }
    }
}
