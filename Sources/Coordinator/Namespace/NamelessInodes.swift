import Platform
import UnderStores

/// Inodes whose last name Larder has removed, and that the kernel still asks for: files that are open or were looked up
/// just before, directories that are open or somebody's own. Any thread.
final class NamelessInodes: Sendable {
    struct Entry: Sendable {
        /// As it was, without links.
        var record: InodeRecord
        /// Of a store of files: the file itself, which has its attributes.
        let file: Descriptor?
        /// CLOCK_MONOTONIC nanoseconds.
        fileprivate let addedAt: UInt64
    }

    private struct State {
        /// By inode, each while a lease on it lasts, and a moment.
        var files: [UInt64: Entry] = [:]
        /// Nobody tells when a directory is closed: the last ones are kept.
        var directories: [UInt64: Entry] = [:]
        var order: [UInt64] = []
        var isPruning = false
    }

    private let state = Lock(State())

    /// More than these are hardly held open or stood in after they were removed.
    private static let mostDirectories = 1024
    /// How long somebody who has found a file may take to open it, in nanoseconds. Its space is not free before.
    private static let moment: UInt64 = 1_000_000_000

    /// - Parameter isOpen: asked about files, without a lock, until it says no.
    func add(_ inode: UInt64, _ record: InodeRecord, file: Descriptor?, isOpen: @escaping @Sendable (UInt64) -> Bool) {
        var record = record
        record.attributes.links = 0
        record.attributes.changed = .now()
        let entry = Entry(record: record, file: file, addedAt: MonotonicClock.now())
        let isFirst = state.withLock { state -> Bool in
            if record.attributes.kind == .directory {
                state.directories[inode] = entry
                state.order.append(inode)
                if state.order.count > Self.mostDirectories { state.directories[state.order.removeFirst()] = nil }
                return false
            }
            state.files[inode] = entry
            defer { state.isPruning = true }
            return !state.isPruning
        }
        if isFirst { Task { [weak self] in await self?.prune(isOpen) } }
    }

    subscript(inode: UInt64) -> Entry? { state.withLock { $0.files[inode] ?? $0.directories[inode] } }

    func change(_ inode: UInt64, _ change: (inout InodeRecord) -> Void) {
        state.withLock { state in
            if var entry = state.files[inode] {
                change(&entry.record)
                state.files[inode] = entry
            } else if var entry = state.directories[inode] {
                change(&entry.record)
                state.directories[inode] = entry
            }
        }
    }

    /// Forgets the files that nobody has open any more, until none is left.
    private func prune(_ isOpen: @Sendable (UInt64) -> Bool) async {
        while true {
            try? await Task.sleep(nanoseconds: Self.moment)
            let now = MonotonicClock.now()
            let old = state.withLock { $0.files.filter { now &- $0.value.addedAt >= Self.moment }.map(\.key) }
            let closed = old.filter { !isOpen($0) }
            let isDone = state.withLock { state -> Bool in
                for inode in closed { state.files[inode] = nil }
                state.isPruning = !state.files.isEmpty
                return !state.isPruning
            }
            if isDone { return }
        }
    }
}
