import Coordination
import Glibc
import LMDB
import Platform
import SystemPackage
import UnderStores

/// Changes that are sent again because the coordinator died before it answered. The intent of a change is in the journal
/// before it is made, and what can be made once only is judged by it.
extension ChangeService {
    /// The intent of an earlier attempt that has no answer; nil when the change is new.
    func earlier(_ origin: Origin) -> ChangeIntent? {
        origin.operation.flatMap { try? journal.intent(of: $0) }
    }

    /// Notes what is about to be changed, when all that is looked at before has been found right.
    /// - Parameters:
    ///   - other: the second name that a rename changes.
    ///   - subject: what stands under the first.
    /// - Throws: EIO, ENOSPC when the journal cannot be written.
    func intend(
        _ mount: MountPoint, _ path: ByteString, and other: ByteString? = nil, of subject: Result? = nil,
        giving metadata: WrittenMetadata? = nil, _ origin: Origin
    ) throws(CoordinationError) {
        guard let key = origin.operation else { return }
        let intent = ChangeIntent(
            store: mount.store.identity, paths: [path] + (other.map { [$0] } ?? []), inode: subject?.inode ?? 0,
            version: subject?.record.attributes.version, metadata: metadata)
        do throws(LMDBError) { try journal.put(intent, of: key) } catch {
            throw CoordinationError(.journal(error), path)
        }
    }

    /// Notes that a name is about to be made. Throws EEXIST.
    func intendCreation(_ place: Place, _ origin: Origin) async throws(CoordinationError) {
        guard origin.operation != nil else { return }
        // On a store of files the call itself says what is wrong with a name; but what stands there already must not be
        // taken for what a killed call has made.
        if place.mount.store.fileWriting != nil, (try? await place.mount.store.lookup(place.path)) != nil {
            throw CoordinationError(.fileExists, "\(place.path) exists")
        }
        try intend(place.mount, place.path, origin)
    }

    /// What an earlier attempt has made under a name; nil when it is to be made.
    func made(
        _ place: Place, _ origin: Origin, _ isMeant: (InodeRecord) -> Bool
    ) async throws(CoordinationError) -> Result? {
        guard earlier(origin) != nil, let found = try await lookAgain(place), isMeant(found.record) else { return nil }
        return found
    }

    /// Whether an earlier attempt has taken a name away: it stands for nothing, or for something else than it did.
    func isRemoved(_ place: Place, _ origin: Origin) async throws(CoordinationError) -> Bool {
        guard let intent = earlier(origin) else { return false }
        guard let found = try await lookAgain(place) else { return true }
        return found.inode != intent.inode && !isSame(found.record.attributes, intent, place.mount)
    }

    /// Whether an earlier attempt has renamed a file of a store of files; the index then has it so as well.
    func isRenamed(
        _ source: Place, _ target: Place, _ origin: Origin
    ) async throws(CoordinationError) -> Bool {
        guard let intent = earlier(origin), let found = try? await target.mount.store.lookup(target.path),
            isSame(found, intent, target.mount)
        else { return false }
        if case .inode(intent.inode, _) = namespace.index.child(of: source.parent, named: source.name) {
            namespace.move(
                intent.inode, from: (source.parent, source.name), to: target.name, in: target.parent,
                mount: target.mount, origin: origin.session
            ) { $0.expiry = 0 }
        } else {
            _ = try await lookAgain(target)
        }
        // After an exchange it has another file.
        _ = try await lookAgain(source)
        return true
    }

    private func isSame(_ attributes: ObjectAttributes, _ intent: ChangeIntent, _ mount: MountPoint) -> Bool {
        guard let version = attributes.version, let known = intent.version else { return false }
        return mount.store.fileIdentity(of: version) == mount.store.fileIdentity(of: known)
    }

    /// What stands under a name by a look at the store, whatever is believed of it.
    func lookAgain(_ place: Place) async throws(CoordinationError) -> Result? {
        guard
            case .inode(let inode, let record) = try await namespace.ask(
                parent: place.parent, directory: place.directory, name: place.name, mount: place.mount)
        else { return nil }
        return (inode, record)
    }

    // MARK: At the start

    /// What a predecessor was changing when it was killed is looked up again before anybody believes it.
    func settleIntents(_ mount: MountPoint, below root: UInt64) async {
        for intent in (try? journal.unansweredIntents()) ?? [] where intent.store == mount.store.identity {
            if await isRewritten(intent, mount, below: root) { continue }
            for path in intent.paths {
                guard let (parent, name) = known(path, below: root) else { continue }
                namespace.doubt(name, in: parent)
            }
        }
    }

    /// Whether the object of an intent to write other metadata has them: then the index has its new version.
    private func isRewritten(_ intent: ChangeIntent, _ mount: MountPoint, below root: UInt64) async -> Bool {
        guard let wanted = intent.metadata, let path = intent.paths.first, let objects = mount.store.objectWriting,
            let (parent, name) = known(path, below: root),
            case .inode(intent.inode, let record) = namespace.index.child(of: parent, named: name),
            record.staged == 0, record.attributes.version == intent.version,
            let (metadata, found) = try? await objects.metadata(of: path), found.size == record.attributes.size,
            metadata.mode == wanted.mode, metadata.uid == wanted.uid, metadata.gid == wanted.gid,
            metadata.modified == wanted.modified, metadata.extendedAttributes == wanted.extendedAttributes
        else { return false }
        namespace.change(intent.inode, origin: nil) { record in
            record.attributes.version = found.version
            record.attributes = record.attributes.adding(metadata)
        }
        return true
    }
}
