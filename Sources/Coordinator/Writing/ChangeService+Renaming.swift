import Coordination
import Glibc
import LMDB
import Platform
import SystemPackage
import UnderStores

extension ChangeService {
    /// Of renameat2(2).
    private enum RenameFlag {
        static let noReplace: UInt32 = 1
        static let exchange: UInt32 = 2
    }

    private struct Ends {
        let source, target: Place
        let inode: UInt64
        let record: InodeRecord
        /// What stands under the new name.
        let replaced: Result?
        let flags: UInt32
    }

    /// renameat2(2). EXDEV between mount points; EINVAL for flags that the store cannot do.
    func rename(
        _ parent: UInt64, _ name: ByteString, to newParent: UInt64, _ newName: ByteString, flags: UInt32,
        _ origin: Origin
    ) async throws(CoordinationError) {
        guard flags & ~(RenameFlag.noReplace | RenameFlag.exchange) == 0,
            flags != RenameFlag.noReplace | RenameFlag.exchange
        else { throw CoordinationError(.invalidArgument, "unknown rename flags \(flags)") }
        // What the names stand for is known for sure only under the locks, and which locks are needed only by what they
        // stand for.
        for _ in 0..<16 {
            let source = try place(parent, name)
            let target = try place(newParent, newName)
            if source.mount.store.fileWriting != nil, try await isRenamed(source, target, origin) { return }
            let moved = try await existing(source)
            let replaced = try await standing(target)
            let trees = [moved, replaced].compactMap { found in
                found.flatMap { $0.record.attributes.kind == .directory ? $0.inode : nil }
            }
            let claims = ChangeLocks.Claims(
                names: [(parent, name, source.ancestors), (newParent, newName, target.ancestors)], trees: trees,
                inodes: Array(Set([moved.inode] + (replaced.map { [$0.inode] } ?? []))))
            let isDone = try await locks.withClaims(claims) { () async throws(CoordinationError) -> Bool in
                let source = try place(parent, name)
                let target = try place(newParent, newName)
                let now = try await existing(source)
                let other = try await standing(target)
                guard now.inode == moved.inode, other?.inode == replaced?.inode else { return false }
                try await rename(
                    Ends(
                        source: source, target: target, inode: now.inode, record: now.record, replaced: other,
                        flags: flags), origin)
                return true
            }
            if isDone { return }
        }
        throw CoordinationError(.resourceBusy, "\(name) changes faster than it can be renamed")
    }

    private func standing(_ place: Place) async throws(CoordinationError) -> Result? {
        guard case .inode(let inode, let record) = try await namespace.lookup(parent: place.parent, name: place.name)
        else { return nil }
        return (inode, record)
    }

    private func rename(_ ends: Ends, _ origin: Origin) async throws(CoordinationError) {
        guard ends.source.mount.number == ends.target.mount.number else {
            throw CoordinationError(.improperLink, "a rename cannot lead to another store")
        }
        if ends.flags & RenameFlag.noReplace != 0, ends.replaced != nil {
            throw CoordinationError(.fileExists, "\(ends.target.path) exists")
        }
        if ends.replaced?.inode == ends.inode { return }
        if let files = ends.source.mount.store.fileWriting {
            try await renameFile(ends, files, origin)
            for parent in Set([ends.source.parent, ends.target.parent]) { await refresh(parent, ends.source.mount) }
            return
        }
        let objects = try objects(ends.source.mount)
        guard ends.flags & RenameFlag.exchange == 0 else {
            throw CoordinationError(.invalidArgument, "\(ends.source.mount.source) cannot exchange two names")
        }
        let isDirectory = ends.record.attributes.kind == .directory
        if let replaced = ends.replaced {
            let replacesDirectory = replaced.record.attributes.kind == .directory
            if isDirectory, !replacesDirectory {
                throw CoordinationError(.notDirectory, "\(ends.target.path) is not a directory")
            }
            if !isDirectory, replacesDirectory {
                throw CoordinationError(.isDirectory, "\(ends.target.path) is a directory")
            }
            if replacesDirectory { try await requireEmpty(replaced.inode, ends.target) }
        }
        guard !isDirectory || !(ends.target.path + "/").hasPrefix(ends.source.path + "/") else {
            throw CoordinationError(.invalidArgument, "a directory cannot go into itself")
        }
        try await keepDirectory(ends.source, objects)
        // The store knows of the rename before the index does.
        try await namespace.keeping([ends.inode] + (ends.replaced.map { [$0.inode] } ?? [])) {
            () async throws(CoordinationError) in
            if isDirectory {
                try await renameTree(ends, objects, origin)
            } else {
                try await renameObject(ends, objects, origin)
            }
        }
    }

    // MARK: Files in place

    private func renameFile(_ ends: Ends, _ files: any FileWriting, _ origin: Origin) async throws(CoordinationError) {
        if let replaced = ends.replaced, ends.flags & RenameFlag.exchange == 0 {
            // Also for who has looked it up and is about to open it: on a local file system that always works. Before the
            // rename, so that nobody finds neither the name nor this.
            let isFile = replaced.record.attributes.kind == .file && replaced.record.attributes.links <= 1
            let held = isFile ? try? await files.hold(ends.target.path) : nil
            noteNameless(replaced.inode, replaced.record, held)
        }
        try intend(
            ends.source.mount, ends.source.path, and: ends.target.path, of: (ends.inode, ends.record), origin)
        try await filing {
            () async throws(FileFailure) in
            try await files.rename(ends.source.path, to: ends.target.path, flags: ends.flags, as: origin.caller)
        }
        let (source, target) = (ends.source, ends.target)
        if ends.flags & RenameFlag.exchange != 0 {
            guard let replaced = ends.replaced else { return }
            namespace.exchange(ends.inode, replaced.inode, origin: origin.session)
            return
        }
        if let replaced = ends.replaced, replaced.record.attributes.kind != .directory,
            replaced.record.attributes.links > 1
        {
            namespace.unlink(
                replaced.inode, target.name, in: target.parent, mount: target.mount, origin: origin.session)
        }
        // The change time is another, and so is the version.
        namespace.move(
            ends.inode, from: (source.parent, source.name), to: target.name, in: target.parent, mount: target.mount,
            origin: origin.session
        ) {
            $0.expiry = 0
        }
    }

    // MARK: Objects

    private func renameObject(
        _ ends: Ends, _ objects: any ObjectWriting, _ origin: Origin
    ) async throws(CoordinationError) {
        if let other = ends.replaced { noteNameless(other.inode, other.record, nil) }
        let replaced = ends.replaced.flatMap { written.file(of: $0.record) }
        let moved = written.file(of: ends.record)
        try await staging.holding([moved, replaced].compactMap { $0 }) { () async throws(CoordinationError) in
            // The commit that was waited for may have been the last: then the store has it, and the file is a cache file.
            if let moved { try staging.checkCurrent(moved) }
            let moved = moved.flatMap { $0.isCurrent ? $0 : nil }
            let replaced = replaced.flatMap { $0.isCurrent ? $0 : nil }
            if let moved, moved.base == .absent {
                try await moveStaged(ends, moved, over: replaced, origin)
            } else {
                try await moveObject(ends, objects, moved, over: replaced, origin)
            }
        }
    }

    /// Nothing of the file is in the store yet.
    private func moveStaged(
        _ ends: Ends, _ file: StagedFile, over replaced: StagedFile?, _ origin: Origin
    ) async throws(CoordinationError) {
        let (source, target) = (ends.source, ends.target)
        var move = StagingService.Move(base: .absent)
        if let other = ends.replaced {
            let known = namespace.index.record(other.inode) ?? other.record
            move.base = replaced?.base ?? known.attributes.version.map { .version($0) } ?? .absent
            if move.base != .absent { try await keepForReaders(other.inode) }
        }
        move.replaced = replaced
        move.answers = origin.operation.map { ($0.client, $0.operation) }
        try await staging.move(file, to: target.path, move)
        // First the name, which never stands for nothing.
        namespace.move(
            ends.inode, from: (source.parent, source.name), to: target.name, in: target.parent, mount: target.mount,
            origin: origin.session)
        if let replaced { await written.abandon(replaced) }
    }

    /// The store has the object, `file` what was written to it since; the caller holds both files.
    private func moveObject(
        _ ends: Ends, _ objects: any ObjectWriting, _ file: StagedFile?, over replaced: StagedFile?, _ origin: Origin
    ) async throws(CoordinationError) {
        let (source, target) = (ends.source, ends.target)
        if let other = ends.replaced { try await keepForReaders(other.inode) }
        try await keepForReaders(ends.inode)
        let record = try namespace.record(ends.inode)
        var version = record.attributes.version
        if case .version(let committed) = file?.base { version = committed }
        let isExclusive = ends.flags & RenameFlag.noReplace != 0
        let size = record.attributes.size
        try await journaled(
            RenameRecord(
                number: 0, store: source.mount.store.identity, source: source.path, destination: target.path,
                isTree: false, sourceVersion: version, phase: .copying, condition: isExclusive ? .absent : .none),
            objects, over: replaced, origin
        ) { (copied) async throws(CoordinationError) in
            if let file, let version = copied?.version {
                try await staging.move(file, to: target.path, .init(base: .version(version), isCopied: true))
            } else if file == nil {
                await written.keepCached(
                    source.mount, from: source.path, version, to: target.path, copied?.version, size: size)
            }
            let now = MonotonicClock.now()
            namespace.move(
                ends.inode, from: (source.parent, source.name), to: target.name, in: target.parent,
                mount: target.mount, origin: origin.session
            ) { record in
                guard let copied else {
                    record.expiry = 0
                    return
                }
                record.attributes.version = copied.version
                record.attributes.changed = .now()
                record.expiry = file == nil ? now &+ target.mount.metadataTTL : record.expiry
            }
        }
    }

    private func renameTree(
        _ ends: Ends, _ objects: any ObjectWriting, _ origin: Origin
    ) async throws(CoordinationError) {
        let (source, target) = (ends.source, ends.target)
        // What was written below and is not in the store yet just gets another path.
        var below: [(file: StagedFile, path: ByteString)] = []
        namespace.forEachKnown(below: ends.inode) { _, record in
            guard let file = written.file(of: record) else { return }
            below.append((file, target.path + ByteString(file.path.bytes.dropFirst(source.path.count))))
        }
        let files = below
        try await staging.holding(files.map(\.file)) { () async throws(CoordinationError) in
            try await journaled(
                RenameRecord(
                    number: 0, store: source.mount.store.identity, source: source.path, destination: target.path,
                    isTree: true, sourceVersion: nil, phase: .copying, condition: .none), objects, over: nil, origin
            ) { (_) async throws(CoordinationError) in
                for (file, path) in files where file.isCurrent {
                    var move = StagingService.Move(base: .absent)
                    if file.base != .absent {
                        let found = try await storing(target.mount) { () async throws(StoreError) in
                            try await objects.lookup(path)
                        }
                        move.base = found?.version.map { .version($0) } ?? .none
                        move.isCopied = true
                    }
                    try await staging.move(file, to: path, move)
                }
                namespace.move(
                    ends.inode, from: (source.parent, source.name), to: target.name, in: target.parent,
                    mount: target.mount, origin: origin.session)
            }
        }
        var known: [(inode: UInt64, record: InodeRecord)] = []
        namespace.forEachKnown(below: ends.inode) { inode, record in
            if record.attributes.kind == .file, !namespace.isStaged(record) { known.append((inode, record)) }
        }
        for (inode, record) in known {
            // A copy may have another version than its original; most have the same.
            namespace.change(inode, origin: origin.session, isTold: false) { $0.expiry = 0 }
            guard let path = namespace.index.path(of: record), path.hasPrefix(target.path + "/") else { continue }
            let former = source.path + ByteString(path.bytes.dropFirst(target.path.count))
            let version = record.attributes.version
            await written.keepCached(
                target.mount, from: former, version, to: path, version, size: record.attributes.size)
        }
    }

    /// Runs a rename of objects so that a restart completes it, with what `complete` does to staged files and the index. The
    /// staged file of the destination has no more say from the moment on at which the rename is sure to be completed.
    private func journaled(
        _ rename: RenameRecord, _ objects: any ObjectWriting, over replaced: StagedFile?, _ origin: Origin,
        _ complete: (ObjectAttributes?) async throws(CoordinationError) -> Void
    ) async throws(CoordinationError) {
        var rename = rename
        rename.client = origin.operation?.client
        rename.operation = origin.operation?.operation ?? 0
        do throws(LMDBError) {
            rename.number = try journal.nextNumber()
            let noted = rename
            var void = replaced?.record()
            void?.state = .void
            try journal.update { (transaction) throws(LMDBError) in
                try journal.put(noted, transaction)
                if let replaced, let void { try journal.put(void, number: replaced.number, transaction) }
            }
        } catch { throw CoordinationError(.ioError, "the journal cannot be written: \(error)") }
        let work = RenameWork(rename, objects, journal: journal)
        let attributes: ObjectAttributes?
        do throws(StoreError) { attributes = try await work.run() } catch {
            if work.hasChanged {
                if let replaced { await written.abandon(replaced) }
            } else {
                try? journal.removeRename(rename.number)
                if let replaced { staging.saveOrReport(replaced) }
            }
            throw CoordinationError(error)
        }
        try await complete(attributes)
        if let replaced { await written.abandon(replaced) }
        // Last: until here a successor does all of it again, the index included.
        work.finish()
    }
}
