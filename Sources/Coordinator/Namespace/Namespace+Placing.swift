import Platform
import UnderStores

extension Namespace {
    /// What a name became in the index.
    struct Placed {
        let found: Found
        /// Kernels may hold an older answer for the name.
        let isNews: Bool
        /// An inode that stayed while its attributes or bytes changed (a source file written in place).
        let changedInode: UInt64?
        /// A directory inode that the name no longer stands for.
        let orphan: UInt64?
    }

    /// Writes what the store said of a name: keeps the inode while it stands for the same object, gives a new number when
    /// the object was replaced, and remembers absence. nil when the directory itself is gone.
    ///
    /// - Parameters:
    ///   - asked: CLOCK_MONOTONIC nanoseconds before which the store was not asked. What Larder has changed since, or has
    ///     asked for later, stays, and so does what the store does not have yet and what is just being changed.
    ///   - isListed: whether a listing said it, which then does not show the name again.
    func place(
        parent: UInt64, name: ByteString, attributes: ObjectAttributes?, asked: UInt64, isListed: Bool = false,
        mount: MountPoint, transaction: IndexTransaction
    ) -> Placed? {
        guard let directory = transaction.record(parent) else { return nil }
        let now = MonotonicClock.now()
        let negative = negatives.remove(NameKey(parent: parent, name: name))
        let old = transaction.child(of: parent, named: name) ?? negative.map { .absent(until: $0) }
        let changeTime = transaction.changeTime(of: parent, name)
        switch old {
        case .inode(let inode, let record) where isKept(inode, record) || changeTime >= asked:
            if isListed {
                transaction.setChild(parent, name, inode: inode, listing: directory.listing, changedAt: changeTime)
            }
            return Placed(found: .inode(inode, record), isNews: false, changedInode: nil, orphan: nil)
        case .absent(let until) where changeTime >= asked:
            return Placed(found: .absent(until: until), isNews: false, changedInode: nil, orphan: nil)
        default: break
        }
        guard let attributes else {
            let until = now &+ mount.negativeTTL
            transaction.setAbsent(parent, name, until: until, changedAt: asked)
            guard case .inode(let inode, let record) = old else {
                return Placed(found: .absent(until: until), isNews: false, changedInode: nil, orphan: nil)
            }
            transaction.removeRecord(inode)
            let orphan = record.attributes.kind == .directory ? inode : nil
            return Placed(found: .absent(until: until), isNews: true, changedInode: nil, orphan: orphan)
        }
        var fresh = InodeRecord(
            mount: mount.number, parent: parent, name: name, attributes: attributes, expiry: now &+ mount.metadataTTL)
        fresh.changedAt = now
        let shared = sharedInode(of: attributes, mount, transaction)
        if let (inode, record) = shared, shared?.inode != Self.inode(old) {
            if case .inode(let replaced, _) = old { transaction.removeRecord(replaced) }
            fresh.isRewritten = record.isRewritten || record.attributes.version != attributes.version
            transaction.setRecord(inode, fresh)
            transaction.addName(parent, name, toInode: inode, mount.number, mount.identity(of: attributes))
            transaction.setChild(parent, name, inode: inode, listing: directory.listing, changedAt: asked)
            return Placed(found: .inode(inode, fresh), isNews: old != nil, changedInode: inode, orphan: nil)
        }
        guard case .inode(let inode, let record) = old else {
            let inode = transaction.allocateInode()
            if isShared(attributes, mount) {
                transaction.addName(
                    parent, name, toInode: inode, mount.number, mount.identity(of: attributes))
            }
            transaction.setRecord(inode, fresh)
            transaction.setChild(parent, name, inode: inode, listing: directory.listing, changedAt: asked)
            let wasAbsent = if case .absent = old { true } else { false }
            return Placed(found: .inode(inode, fresh), isNews: wasAbsent, changedInode: nil, orphan: nil)
        }
        let changed = record.attributes.version != attributes.version
        // A listing does not know what a lookup of the same version has told: owner, mode, that it is a symbolic link.
        if attributes.isPartial, !record.attributes.isPartial, !changed { fresh.attributes = record.attributes }
        if record.attributes.kind == fresh.attributes.kind, record.mount == mount.number,
            mount.identity(of: record.attributes) == mount.identity(of: fresh.attributes)
        {
            fresh.listedUntil = record.listedUntil
            fresh.listing = record.listing
            fresh.isRewritten = record.isRewritten || (changed && record.attributes.kind == .file)
            fresh.hasMarker = record.hasMarker
            if !changed { fresh.changedAt = record.changedAt }
            transaction.setRecord(inode, fresh)
            transaction.setChild(parent, name, inode: inode, listing: directory.listing, changedAt: asked)
            return Placed(
                found: .inode(inode, fresh), isNews: false, changedInode: changed ? inode : nil, orphan: nil)
        }
        let successor = transaction.allocateInode()
        transaction.removeRecord(inode)
        transaction.setRecord(successor, fresh)
        transaction.setChild(parent, name, inode: successor, listing: directory.listing, changedAt: asked)
        let orphan = record.attributes.kind == .directory ? inode : nil
        return Placed(found: .inode(successor, fresh), isNews: true, changedInode: nil, orphan: orphan)
    }

    /// Whether other names may stand for the same file.
    func isShared(_ attributes: ObjectAttributes, _ mount: MountPoint) -> Bool {
        mount.lendsSource && attributes.links > 1 && attributes.kind != .directory
    }

    /// The inode that another name of the same file has.
    private func sharedInode(
        of attributes: ObjectAttributes, _ mount: MountPoint, _ transaction: IndexTransaction
    ) -> (inode: UInt64, record: InodeRecord)? {
        guard isShared(attributes, mount) else { return nil }
        let identity = mount.identity(of: attributes)
        guard let inode = transaction.sharedFile(of: mount.number, identity)?.inode,
            let record = transaction.record(inode), mount.identity(of: record.attributes) == identity
        else { return nil }
        return (inode, record)
    }

    private static func inode(_ child: MetadataIndex.Child?) -> UInt64? {
        if case .inode(let inode, _) = child { inode } else { nil }
    }
}
