import Coordination
import Platform

extension Namespace {
    /// Stops believing what is known of an inode and everything under it, and tells the kernels.
    ///
    /// - Parameter settle: awaited after each thousand names or so, and at the end: waits until the kernels have
    ///   forgotten what they were told, so that no more is under way than fits into memory.
    /// - Throws: ESTALE when the inode is gone.
    package func synchronize(_ inode: UInt64, settle: () async -> Void) async throws(CoordinationError) {
        let record = try record(inode)
        saveNegativeAnswers()
        if record.parent != 0 { notify(names: [(record.parent, record.name)], inodes: []) }
        var directories = [inode]
        var told = 0
        expireRecord(inode)
        while let directory = directories.popLast() {
            notify(names: [], inodes: [directory])
            var cursor: ByteString?
            repeat {
                let entries = index.update { transaction -> [IndexTransaction.NamedEntry] in
                    let entries = transaction.entries(of: directory, after: cursor, limit: 1000)
                    for entry in entries {
                        guard let child = entry.inode else {
                            transaction.setAbsent(directory, entry.name, until: 0)
                            continue
                        }
                        guard var known = transaction.record(child) else { continue }
                        if known.attributes.kind == .directory { directories.append(child) }
                        known.expiry = known.expiry == .max ? .max : 0
                        known.listedUntil = 0
                        transaction.setRecord(child, known)
                    }
                    return entries
                }
                notify(names: entries.map { (directory, $0.name) }, inodes: entries.compactMap(\.inode))
                cursor = entries.count == 1000 ? entries.last?.name : nil
                told += entries.count + 1
                if told >= 1000 {
                    await settle()
                    told = 0
                }
            } while cursor != nil
            // Mount points below are roots of their own, which no directory entry leads to.
            directories += table.overlays(in: directory).values.map { overlay in
                expireRecord(overlay)
                return overlay
            }
        }
        await settle()
    }

    /// Stops believing what is known of a name, that it is there or that it is not.
    func doubt(_ name: ByteString, in parent: UInt64) {
        index.update { transaction in
            if var directory = transaction.record(parent) {
                directory.listedUntil = 0
                transaction.setRecord(parent, directory)
            }
            switch transaction.child(of: parent, named: name) {
            case .inode(let inode, var record):
                record.expiry = record.expiry == .max ? .max : 0
                transaction.setRecord(inode, record)
            case .absent: transaction.setAbsent(parent, name, until: 0)
            case nil: break
            }
        }
    }

    private func expireRecord(_ inode: UInt64) {
        index.update { transaction in
            guard var record = transaction.record(inode) else { return }
            record.expiry = record.expiry == .max ? .max : 0
            record.listedUntil = 0
            transaction.setRecord(inode, record)
        }
    }
}
