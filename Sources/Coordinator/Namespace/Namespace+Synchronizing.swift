import Coordination
import Platform

extension Namespace {
    /// Stops believing what is known of an inode and everything under it, and tells the kernels.
    /// Throws ESTALE when the inode is gone.
    package func synchronize(_ inode: UInt64) throws(CoordinationError) {
        let record = try record(inode)
        if record.parent != 0 { notify(names: [(record.parent, record.name)], inodes: []) }
        var directories = [inode]
        expireRecord(inode)
        while let directory = directories.popLast() {
            notify(names: [], inodes: [directory])
            var cursor: ByteString?
            repeat {
                let entries = index.update { transaction -> [(name: ByteString, inode: UInt64?, listing: UInt32)] in
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
            } while cursor != nil
            // Mount points below are roots of their own, which no directory entry leads to.
            directories += table.overlays(in: directory).values.map { overlay in
                expireRecord(overlay)
                return overlay
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
