import Coordination
import Platform
import SystemPackage
import UnderStores

/// One reading of a directory, page by page: from the index while its listing is believed, else from the store, whose
/// pages enter the index on the way. Memory is bounded by a page.
package final class ListingStream: Sendable {
    package struct Item: Sendable {
        package let name: ByteString
        package let inode: UInt64
        package let record: InodeRecord
    }

    private enum Source {
        /// All names after this one, from the index.
        case index(after: ByteString?)
        case store(any DirectoryListing, MountPoint, listing: UInt32, started: UInt64)
        /// The same, of which only the index is wanted.
        case storeToIndex(any DirectoryListing, MountPoint, listing: UInt32, started: UInt64)
        case exhausted
    }
    private struct State {
        var source: Source
        /// Entries of the last page that did not fit into the answer.
        var buffered: [Item]
        var head = 0
        var isBusy = false
    }

    /// The index has names in their order, a store in its own.
    package enum Order: Sendable { case any, byName, store }

    /// How many entries are read from the index at once.
    private static let indexPage = 512

    package let directory: UInt64
    /// The inode that ".." stands for; 0 for the root of a volume.
    package let parent: UInt64
    /// In which the entries come.
    package let order: Order
    private let namespace: Namespace
    private let hidden: Set<ByteString>
    private let state: Lock<State>

    /// - Parameter order: `any` but for a listing that goes on where another was.
    /// - Throws: ENOTDIR, ESTALE.
    package init(_ namespace: Namespace, directory: UInt64, order: Order = .any) throws(CoordinationError) {
        let record = try namespace.record(directory)
        guard record.attributes.kind == .directory else {
            throw CoordinationError(.notDirectory, "\(record.name) is not a directory")
        }
        self.namespace = namespace
        self.directory = directory
        parent = record.parent != 0 ? record.parent : namespace.table.directory(showing: directory) ?? 0
        var overlays: [Item] = []
        for (name, inode) in namespace.table.overlays(in: directory) {
            overlays.append(Item(name: name, inode: inode, record: try namespace.record(inode)))
        }
        hidden = Set(overlays.map(\.name))
        let source: Source
        if let mount = try namespace.mountPoint(of: record) {
            if record.listedUntil > MonotonicClock.now(), order != .store {
                source = .index(after: nil)
                self.order = .byName
            } else {
                let path = try namespace.storePath(of: record)
                let listing = namespace.index.update { transaction -> UInt32 in
                    guard var current = transaction.record(directory) else { return 0 }
                    current.listing &+= 1
                    current.listedUntil = 0
                    transaction.setRecord(directory, current)
                    return current.listing
                }
                let (pages, started) = (mount.store.list(path), MonotonicClock.now())
                source =
                    order == .byName
                    ? .storeToIndex(pages, mount, listing: listing, started: started)
                    : .store(pages, mount, listing: listing, started: started)
                self.order = order == .byName ? .byName : .store
            }
        } else {
            source = .exhausted
            self.order = .byName
        }
        state = Lock(State(source: source, buffered: overlays))
    }

    /// The next entries, at most `limit`; an empty answer is the end. One call at a time (EBUSY otherwise).
    package func next(_ limit: Int) async throws(CoordinationError) -> [Item] {
        guard
            state.withLock({ state in
                defer { state.isBusy = true }
                return !state.isBusy
            })
        else { throw CoordinationError(.resourceBusy, "the directory stream is being read") }
        defer { state.withLock { $0.isBusy = false } }
        while true {
            let (ready, source) = state.withLock { state -> ([Item], Source) in
                let count = min(limit, state.buffered.count - state.head)
                let ready = Array(state.buffered[state.head..<state.head + count])
                state.head += count
                return (ready, state.source)
            }
            if !ready.isEmpty { return ready }
            switch source {
            case .exhausted: return []
            case .index(let after): readIndex(after: after)
            case .store(let listing, let mount, let number, let started):
                try await readStore(listing, mount, number, started)
            case .storeToIndex(let listing, let mount, let number, let started):
                try await readStore(listing, mount, number, started)
                state.withLock { state in
                    state.buffered = []
                    state.head = 0
                    if case .exhausted = state.source { state.source = .index(after: nil) }
                }
            }
        }
    }

    private func readIndex(after: ByteString?) {
        let children = namespace.index.children(of: directory, after: after, limit: Self.indexPage)
        let items = children.filter { !hidden.contains($0.name) }
        state.withLock { state in
            state.buffered = items
            state.head = 0
            if let last = children.last { state.source = .index(after: last.name) } else { state.source = .exhausted }
        }
    }

    private func readStore(
        _ listing: any DirectoryListing, _ mount: MountPoint, _ number: UInt32, _ started: UInt64
    ) async throws(CoordinationError) {
        let page: ListingPage?
        do { page = try await listing.nextPage() } catch {
            // A directory that only leads to a nested mount point need not exist in the store.
            guard error.kind == .notFound, !hidden.isEmpty else {
                namespace.tallies.note(error, of: mount.store.identity)
                throw CoordinationError(error)
            }
            page = nil
        }
        guard let page else {
            let kept = namespace.finishListing(of: directory, listing: number, started: started, mount: mount)
            state.withLock { state in
                state.source = .exhausted
                state.buffered = kept.filter { !hidden.contains($0.name) }
                state.head = 0
            }
            return
        }
        namespace.tallies.add(unnameable: page.unnameable, shadowed: page.shadowed.count, store: mount.store.identity)
        for name in page.shadowed.prefix(10) {
            namespace.logger.warning("object hidden by a directory of the same name", metadata: ["name": "\(name)"])
        }
        let items = namespace.enter(page, into: directory, started: started, mount: mount)
            .filter { !hidden.contains($0.name) }
        state.withLock { state in
            state.buffered = items
            state.head = 0
        }
    }
}

extension Namespace {
    /// Writes a page of a listing into the index.
    /// - Parameter started: CLOCK_MONOTONIC nanoseconds of the listing's start.
    func enter(
        _ page: ListingPage, into directory: UInt64, started: UInt64, mount: MountPoint
    ) -> [ListingStream.Item] {
        let (items, placed) = index.update { transaction -> ([ListingStream.Item], [(ByteString, Placed)]) in
            var items: [ListingStream.Item] = []
            items.reserveCapacity(page.entries.count)
            var news: [(ByteString, Placed)] = []
            for entry in page.entries where entry.name.isNameable {
                guard
                    let placed = place(
                        parent: directory, name: entry.name, attributes: entry.attributes, asked: started,
                        isListed: true, mount: mount, transaction: transaction)
                else { break }
                if case .inode(let inode, let record) = placed.found {
                    items.append(ListingStream.Item(name: entry.name, inode: inode, record: record))
                }
                if placed.isNews || placed.changedInode != nil { news.append((entry.name, placed)) }
            }
            return (items, news)
        }
        notify(
            names: placed.filter(\.1.isNews).map { (directory, $0.0) }, inodes: placed.compactMap(\.1.changedInode))
        return items
    }

    /// Ends a listing: names that it did not show are gone, and the rest is believed for the mount's TTL. Returns those
    /// that are there although the store did not show them: it does not have them yet, or got them meanwhile.
    func finishListing(
        of directory: UInt64, listing: UInt32, started: UInt64, mount: MountPoint
    ) -> [ListingStream.Item] {
        var kept: [ListingStream.Item] = []
        saveNegativeAnswers()
        // In steps, so that a huge directory does not hold the index's writer for long.
        var cursor: ByteString?
        while true {
            let swept = index.update { transaction -> IndexTransaction.Sweep in
                guard transaction.record(directory)?.listing == listing else { return IndexTransaction.Sweep() }
                return transaction.sweep(directory, after: cursor, limit: 10_000) { entry in
                    entry.listing == listing ? .shown : entry.changedAt >= started ? .kept : .unknown(isKept)
                }
            }
            notify(names: swept.removed.map { (directory, $0) }, inodes: [])
            kept += swept.kept
            guard let last = swept.last else { break }
            cursor = last
        }
        index.update { transaction in
            // A listing that began later decides for itself.
            guard var record = transaction.record(directory), record.listing == listing else { return }
            record.listedUntil = MonotonicClock.now() &+ mount.metadataTTL
            transaction.setRecord(directory, record)
        }
        return kept
    }
}
