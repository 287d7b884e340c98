import Coordination
import Platform
import UnderStores

/// Visits everything under an inode, depth first; memory is bounded by the depth and a page for each level.
struct TreeWalk: Sendable {
    let namespace: Namespace

    /// Calls `visit` for the inode itself and everything under it, one at a time.
    /// Directories that vanish on the way are passed over.
    func run(
        from inode: UInt64, _ visit: (UInt64, InodeRecord) async throws(CoordinationError) -> Void
    ) async throws(CoordinationError) {
        let record = try await namespace.current(inode)
        try await visit(inode, record)
        guard record.attributes.kind == .directory else { return }
        var levels = [try ListingStream(namespace, directory: inode)]
        while let level = levels.last {
            if Task.isCancelled { throw CoordinationError(.interrupted, "the walk was cancelled") }
            let items: [ListingStream.Item]
            do throws(CoordinationError) { items = try await level.next(1) } catch {
                guard error.errno == .noSuchFileOrDirectory || error.errno == .staleNFSFileHandle, levels.count > 1
                else {
                    throw error
                }
                levels.removeLast()
                continue
            }
            guard let item = items.first else {
                levels.removeLast()
                continue
            }
            try await visit(item.inode, item.record)
            if item.record.attributes.kind == .directory {
                guard let stream = try? ListingStream(namespace, directory: item.inode) else { continue }
                levels.append(stream)
            }
        }
    }
}
