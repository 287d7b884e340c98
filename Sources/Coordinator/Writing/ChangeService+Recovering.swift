import Coordination
import Platform
import UnderStores

extension ChangeService {
    /// Takes up what a coordinator before this one has not finished on the stores of a volume: renames are completed, and
    /// staged files stand under their names again, before anybody looks.
    func recover(_ volume: Volume) async {
        for mount in volume.mounts where !mount.isReadOnly {
            guard let objects = mount.store.objectWriting, let root = root(of: mount) else { continue }
            let (renames, failed) = await RenameWork.recover(objects, journal: journal)
            for (rename, error) in failed {
                logger.warning(
                    "a rename cannot be completed now",
                    metadata: ["from": "\(rename.source)", "to": "\(rename.destination)", "reason": "\(error)"])
            }
            for work in renames {
                await staging.relocate(in: objects) { work.newPath(of: $0) }
                follow(work.rename, below: root, mount)
            }
            // The versions of copies are not known.
            if !renames.isEmpty { try? await namespace.synchronize(root) {} }
            for file in await staging.recover(for: objects) {
                do throws(CoordinationError) { try await stand(file, below: root, mount) } catch {
                    logger.warning(
                        "a file that was being written has lost its place",
                        metadata: ["path": "\(file.path)", "reason": "\(error)"])
                }
            }
            for work in renames { work.finish() }
        }
        for mount in volume.mounts where !mount.isReadOnly {
            if let root = root(of: mount) { await settleIntents(mount, below: root) }
        }
    }

    /// What a rename has moved goes to its new name in the index as well, where the predecessor did not come so far.
    private func follow(_ rename: RenameRecord, below root: UInt64, _ mount: MountPoint) {
        guard let from = known(rename.source, below: root), let to = known(rename.destination, below: root),
            case .inode(let inode, _) = namespace.index.child(of: from.parent, named: from.name)
        else { return }
        namespace.move(inode, from: from, to: to.name, in: to.parent, mount: mount, origin: nil)
    }

    /// The name at a path, if the index has its directory.
    func known(_ path: ByteString, below root: UInt64) -> (parent: UInt64, name: ByteString)? {
        var parent = root
        for name in path.components.dropLast() {
            guard case .inode(let inode, _) = namespace.index.child(of: parent, named: name) else { return nil }
            parent = inode
        }
        return path.components.last.map { (parent, $0) }
    }

    /// The inode of a mount point's root.
    private func root(of mount: MountPoint) -> UInt64? { namespace.table.root(of: mount.number) }

    /// Puts a staged file under its name, where the index does not have it so.
    private func stand(
        _ file: StagedFile, below root: UInt64, _ mount: MountPoint
    ) async throws(CoordinationError) {
        let known = namespace.index.record(file.inode).flatMap { $0.staged == file.number ? $0 : nil }
        if let known, namespace.index.path(of: known) == file.path { return }
        guard let name = file.path.components.last else { return }
        let parent = try await directory(of: file.path, below: root, mount)
        if let known {
            // Its rename is in the journal, and the predecessor was killed before the index had it.
            namespace.move(
                file.inode, from: (known.parent, known.name), to: name, in: parent, mount: mount, origin: nil)
            return
        }
        let metadata = file.target.metadata
        let inode = namespace.index.allocateInode()
        file.state.withLock { $0.target.inode = inode }
        staging.saveOrReport(file)
        var attributes = ObjectAttributes(kind: .file, modified: metadata.modified ?? .now()).adding(metadata)
        if case .version(let version) = file.base { attributes.version = version }
        namespace.add(attributes, as: name, in: parent, inode: inode, mount: mount, origin: nil) { record in
            record.staged = file.number
            record.expiry = .max
        }
    }

    /// The directory that a path lies in, made in the index where the store has none.
    private func directory(
        of path: ByteString, below root: UInt64, _ mount: MountPoint
    ) async throws(CoordinationError) -> UInt64 {
        var parent = root
        for name in path.components.dropLast() {
            guard case .inode(let inode, _) = try await namespace.lookup(parent: parent, name: name) else {
                // Nothing in the store stands for the directory any more, and the file shall be found all the same.
                let directory = ObjectAttributes(kind: .directory, modified: .now())
                parent = namespace.add(directory, as: name, in: parent, mount: mount, origin: nil).inode
                continue
            }
            parent = inode
        }
        return parent
    }
}
