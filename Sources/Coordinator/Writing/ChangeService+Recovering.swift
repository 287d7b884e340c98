import Coordination
import Platform
import UnderStores

extension ChangeService {
    /// Takes up what a coordinator before this one has not finished on the stores of a volume: renames are completed, and
    /// staged files stand under their names again, before anybody looks.
    func recover(_ volume: Volume) async {
        for mount in volume.mounts where !mount.isReadOnly {
            guard let objects = mount.store.objectWriting, let root = root(of: mount) else { continue }
            for (rename, error) in await RenameWork.recover(objects, journal: journal) {
                logger.warning(
                    "a rename cannot be completed now",
                    metadata: ["from": "\(rename.source)", "to": "\(rename.destination)", "reason": "\(error)"])
            }
            for file in await staging.recover(for: objects) {
                do throws(CoordinationError) { try await stand(file, below: root, mount) } catch {
                    logger.warning(
                        "a file that was being written has lost its place",
                        metadata: ["path": "\(file.path)", "reason": "\(error)"])
                }
            }
        }
    }

    /// The inode of a mount point's root.
    private func root(of mount: MountPoint) -> UInt64? { namespace.table.root(of: mount.number) }

    /// Puts a staged file under its name, where the index does not have it so.
    private func stand(
        _ file: StagedFile, below root: UInt64, _ mount: MountPoint
    ) async throws(CoordinationError) {
        if let known = namespace.index.record(file.inode), known.staged == file.number { return }
        var parent = root
        for name in file.path.components.dropLast() {
            guard case .inode(let inode, _) = try await namespace.lookup(parent: parent, name: name) else {
                // Nothing in the store stands for the directory any more, and the file shall be found all the same.
                let directory = ObjectAttributes(kind: .directory, modified: .now())
                parent = namespace.add(directory, as: name, in: parent, mount: mount, origin: nil).inode
                continue
            }
            parent = inode
        }
        guard let name = file.path.components.last else { return }
        let metadata = file.target.metadata
        let inode = namespace.index.update { $0.allocateInode() }
        file.state.withLock { $0.target.inode = inode }
        staging.saveOrReport(file)
        var attributes = ObjectAttributes(kind: .file, modified: metadata.modified ?? .now()).adding(metadata)
        if case .version(let version) = file.base { attributes.version = version }
        namespace.add(attributes, as: name, in: parent, inode: inode, mount: mount, origin: nil) { record in
            record.staged = file.number
            record.expiry = .max
        }
    }
}
