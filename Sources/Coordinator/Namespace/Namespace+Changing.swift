import Coordination
import Platform
import SystemPackage
import UnderStores

/// What a change does to the index. The store has been changed, or a staged file made, before; the caller holds the
/// `ChangeLocks` of the names. Kernels are told, all but that of `origin`, which has made the change itself.
extension Namespace {
    /// A new object stands under a name, instead of what stood there. Returns its inode.
    /// - Parameter number: of the inode; nil for a new one.
    @discardableResult
    func add(
        _ attributes: ObjectAttributes, as name: ByteString, in parent: UInt64, inode number: UInt64? = nil,
        mount: MountPoint, origin: UInt64?, _ fill: (inout InodeRecord) -> Void = { _ in }
    ) -> (inode: UInt64, record: InodeRecord) {
        let now = MonotonicClock.now()
        var record = InodeRecord(
            mount: mount.number, parent: parent, name: name, attributes: attributes, expiry: now &+ mount.metadataTTL)
        record.changedAt = now
        fill(&record)
        negatives.remove(NameKey(parent: parent, name: name))
        let inode = index.update { transaction -> UInt64 in
            if case .inode(let old, _) = transaction.child(of: parent, named: name) { transaction.removeRecord(old) }
            let inode = number ?? transaction.allocateInode()
            transaction.setRecord(inode, record)
            transaction.setChild(parent, name, inode: inode, listing: 0, changedAt: now)
            Self.touch(parent, transaction)
            return inode
        }
        notify(names: [(parent, name)], inodes: [parent], origin: origin)
        return (inode, record)
    }

    /// A name is gone from a directory.
    func remove(_ name: ByteString, in parent: UInt64, mount: MountPoint, origin: UInt64?) {
        let now = MonotonicClock.now()
        index.update { transaction in
            if case .inode(let old, _) = transaction.child(of: parent, named: name) { transaction.removeRecord(old) }
            transaction.setAbsent(parent, name, until: now &+ mount.negativeTTL, changedAt: now)
            Self.touch(parent, transaction)
        }
        notify(names: [(parent, name)], inodes: [parent], origin: origin)
    }

    /// An inode goes from one name to another and keeps its number; what had the other name is gone.
    /// - Parameters:
    ///   - former: the name that it loses; a file may have others.
    ///   - change: to the record, which has its new place already.
    func move(
        _ inode: UInt64, from former: (parent: UInt64, name: ByteString), to name: ByteString, in parent: UInt64,
        mount: MountPoint, origin: UInt64?, _ change: (inout InodeRecord) -> Void = { _ in }
    ) {
        let now = MonotonicClock.now()
        index.update { transaction in
            guard var record = transaction.record(inode) else { return }
            if case .inode(let old, _) = transaction.child(of: parent, named: name), old != inode {
                transaction.removeRecord(old)
            }
            transaction.setAbsent(former.parent, former.name, until: now &+ mount.negativeTTL, changedAt: now)
            if record.parent == former.parent, record.name == former.name {
                record.parent = parent
                record.name = name
            }
            if isShared(record.attributes, mount) {
                transaction.addName(parent, name, toInode: inode, mount.number, mount.identity(of: record.attributes))
            }
            record.mount = mount.number
            change(&record)
            transaction.setRecord(inode, record)
            transaction.setChild(parent, name, inode: inode, listing: 0, changedAt: now)
            Self.touch(former.parent, transaction)
            Self.touch(parent, transaction)
        }
        notify(names: [former, (parent, name)], inodes: [former.parent, parent], origin: origin)
    }

    /// Changes what is known of an inode. nil when it is gone. With another version, what the store was asked before does not
    /// count any more, such as a listing that is still under way.
    /// - Parameter isTold: whether kernels must forget the inode's attributes and pages.
    @discardableResult
    func change(
        _ inode: UInt64, origin: UInt64?, isTold: Bool = true, _ change: (inout InodeRecord) -> Void
    ) -> InodeRecord? {
        let now = MonotonicClock.now()
        let record = index.update { transaction -> InodeRecord? in
            guard var record = transaction.record(inode) else { return nil }
            let version = record.attributes.version
            change(&record)
            transaction.setRecord(inode, record)
            if record.attributes.version != version {
                transaction.touchChild(record.parent, record.name, changedAt: now)
            }
            return record
        }
        if record != nil, isTold { notify(names: [], inodes: [inode], origin: origin) }
        return record
    }

    /// Runs a change of the store which the index hears of only at its end: until then what is known of these inodes and
    /// their names stays, whatever the store says of them.
    func keeping<Value: Sendable>(
        _ inodes: [UInt64], _ body: () async throws(CoordinationError) -> Value
    ) async throws(CoordinationError) -> Value {
        kept.withLock { kept in for inode in inodes { kept[inode, default: 0] += 1 } }
        defer {
            kept.withLock { kept in
                for inode in inodes {
                    let count = kept[inode, default: 1] - 1
                    kept[inode] = count == 0 ? nil : count
                }
            }
        }
        return try await body()
    }

    /// The directories from an inode up to its mount point's root, nearest first, without the inode itself.
    func ancestors(of record: InodeRecord) -> [UInt64] {
        var ancestors: [UInt64] = []
        var parent = record.parent
        while parent != 0, ancestors.count < 4096, let above = index.record(parent) {
            ancestors.append(parent)
            parent = above.parent
        }
        return ancestors
    }

    /// Calls `body` with each inode below a directory that the index knows.
    func forEachKnown(below directory: UInt64, _ body: (UInt64, InodeRecord) -> Void) {
        var directories = [directory]
        while let next = directories.popLast() {
            var cursor: ByteString?
            repeat {
                let children = index.children(of: next, after: cursor, limit: 1000)
                for child in children {
                    body(child.inode, child.record)
                    if child.record.attributes.kind == .directory { directories.append(child.inode) }
                }
                cursor = children.count == 1000 ? children.last?.name : nil
            } while cursor != nil
        }
    }

    /// A directory's times change with its entries.
    fileprivate static func touch(_ directory: UInt64, _ transaction: IndexTransaction) {
        guard var record = transaction.record(directory) else { return }
        record.attributes.modified = .now()
        record.attributes.changed = record.attributes.modified
        transaction.setRecord(directory, record)
    }
}

/// Files of a local store that have several names share one inode.
extension Namespace {
    /// An inode gets one more name.
    func link(
        _ inode: UInt64, _ attributes: ObjectAttributes, as name: ByteString, in parent: UInt64, mount: MountPoint,
        origin: UInt64?
    ) throws(CoordinationError) -> (inode: UInt64, record: InodeRecord) {
        let now = MonotonicClock.now()
        let record = index.update { transaction -> InodeRecord? in
            guard var record = transaction.record(inode) else { return nil }
            record.attributes = attributes
            record.expiry = now &+ mount.metadataTTL
            transaction.setRecord(inode, record)
            let identity = mount.identity(of: attributes)
            transaction.addName(record.parent, record.name, toInode: inode, mount.number, identity)
            transaction.addName(parent, name, toInode: inode, mount.number, identity)
            transaction.setChild(parent, name, inode: inode, listing: 0, changedAt: now)
            Self.touch(parent, transaction)
            return record
        }
        guard let record else { throw CoordinationError(.staleNFSFileHandle, "inode \(inode) has been superseded") }
        notify(names: [(parent, name)], inodes: [parent, inode], origin: origin)
        return (inode, record)
    }

    /// An inode with several names loses one.
    func unlink(_ inode: UInt64, _ name: ByteString, in parent: UInt64, mount: MountPoint, origin: UInt64?) {
        let now = MonotonicClock.now()
        index.update { transaction in
            transaction.setAbsent(parent, name, until: now &+ mount.negativeTTL, changedAt: now)
            if var record = transaction.record(inode) {
                record.attributes.links -= min(1, record.attributes.links)
                record.expiry = 0
                let names = transaction.sharedFile(of: mount.number, mount.identity(of: record.attributes))?.names ?? []
                // It is found by a name that it still has.
                for other in names where record.parent == parent && record.name == name {
                    guard case .inode(inode, _) = transaction.child(of: other.parent, named: other.name) else {
                        continue
                    }
                    (record.parent, record.name) = other
                }
                transaction.setRecord(inode, record)
            }
            Self.touch(parent, transaction)
        }
        notify(names: [(parent, name)], inodes: [parent, inode], origin: origin)
    }

    /// Two inodes take each other's name.
    func exchange(_ one: UInt64, _ other: UInt64, origin: UInt64?) {
        let now = MonotonicClock.now()
        let names = index.update { transaction -> [(UInt64, ByteString)] in
            guard var first = transaction.record(one), var second = transaction.record(other) else { return [] }
            (first.parent, second.parent) = (second.parent, first.parent)
            (first.name, second.name) = (second.name, first.name)
            for (inode, var record) in [(one, first), (other, second)] {
                record.expiry = 0
                transaction.setRecord(inode, record)
                transaction.setChild(record.parent, record.name, inode: inode, listing: 0, changedAt: now)
                Self.touch(record.parent, transaction)
            }
            return [(first.parent, first.name), (second.parent, second.name)]
        }
        notify(names: names.map { (parent: $0.0, name: $0.1) }, inodes: [], origin: origin)
    }
}
