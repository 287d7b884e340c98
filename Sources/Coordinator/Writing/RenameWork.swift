import Coordination
import LMDB
import Platform
import SwiftProtobuf
import Synchronization
import UnderStores

/// A rename on a store that has none: copies, then removals. Each step may be done again, so that after a crash the whole
/// is simply run again from the journal's phase on.
final class RenameWork: Sendable {
    /// How many copies run at once: they cost the store time, and this node nothing.
    private static let parallel = 16

    let rename: RenameRecord
    private let objects: any ObjectWriting
    private let journal: Journal
    private let changed = Atomic(false)

    init(_ rename: RenameRecord, _ objects: any ObjectWriting, journal: Journal) {
        self.rename = rename
        self.objects = objects
        self.journal = journal
    }

    /// Whether the store may have been changed: then the rename stays in the journal until it is complete.
    var hasChanged: Bool { changed.load(ordering: .acquiring) }

    /// Completes the rename in the store; `finish` follows. Returns the attributes of the new object; nil of a directory,
    /// and when an earlier run had copied it.
    /// Throws `.notFound`, `.versionChanged`, or why the store could not be changed.
    func run() async throws(StoreError) -> ObjectAttributes? {
        let attributes: ObjectAttributes?
        if rename.isTree {
            do throws(StoreError) { try await copyTree() } catch {
                await undo()
                throw error
            }
            attributes = nil
            note(.removing)
            try await removeTree()
        } else {
            attributes = try await copyObject()
            note(.removing)
            try await removeObject()
        }
        return attributes
    }

    /// Takes the rename out of the journal, once staged files belong under their new paths as well. Who asks again, of this
    /// coordinator or of the next, is told that it is done.
    func finish() {
        try? journal.update { (transaction) throws(LMDBError) in
            if let client = rename.client, let bytes = OperationLog.done {
                try journal.note(bytes, of: rename.operation, by: client, transaction)
            }
            try journal.removeRename(rename.number, transaction)
        }
    }

    /// Where something is after the rename; nil when that leaves it alone.
    func newPath(of path: ByteString) -> ByteString? {
        guard path == rename.source || rename.isTree && path.hasPrefix(rename.source + "/") else { return nil }
        return destination(of: path)
    }

    private func note(_ phase: RenameRecord.Phase) {
        var rename = rename
        rename.phase = phase
        // Without the note a restart begins with copies that are there already.
        try? journal.put(rename)
    }

    private func copyObject() async throws(StoreError) -> ObjectAttributes? {
        if rename.phase == .removing { return nil }
        let attributes = try await objects.copy(
            rename.source, expecting: rename.sourceVersion, to: rename.destination, metadata: nil,
            if: rename.condition)
        changed.store(true, ordering: .releasing)
        return attributes
    }

    private func removeObject() async throws(StoreError) {
        guard rename.phase == .removing, let version = rename.sourceVersion else {
            return try await objects.remove(rename.source, if: .none)
        }
        // A predecessor came so far. What has the name since then stays.
        do throws(StoreError) { try await objects.remove(rename.source, if: .version(version)) } catch {
            guard error.kind == .versionChanged else { throw error }
        }
    }

    /// Takes away what has been copied, so that a rename that failed leaves its source alone. If that fails too, the
    /// journal keeps the rename, and it is completed when the store can be reached again.
    private func undo() async {
        do throws(StoreError) {
            let made = objects.keys(under: rename.destination)
            while let page = try await made.nextPage() {
                if let failed = try await objects.removeAll(page.map(\.key)).first { throw failed.error }
            }
            changed.store(false, ordering: .releasing)
        } catch {}
    }

    private func destination(of key: ByteString) -> ByteString {
        rename.destination + ByteString(key.bytes.dropFirst(rename.source.count))
    }

    private func copyTree() async throws(StoreError) {
        if rename.phase == .removing { return }
        changed.store(true, ordering: .releasing)
        let listing = objects.keys(under: rename.source)
        while let page = try await listing.nextPage() {
            try await inParallel(page.map(\.key)) { [objects] (key) async throws(StoreError) in
                try await objects.copyKey(key, to: self.destination(of: key))
            }
        }
    }

    /// Removes what has been copied. What another node has put under the old name meanwhile is copied first.
    private func removeTree() async throws(StoreError) {
        var copies: [ByteString: UInt64] = [:]
        let made = objects.keys(under: rename.destination)
        while let page = try await made.nextPage() { for entry in page { copies[entry.key] = entry.size } }
        let listing = objects.keys(under: rename.source)
        while let page = try await listing.nextPage() {
            let known = copies
            let missing = page.filter { known[destination(of: $0.key)] != $0.size }
            try await inParallel(missing.map(\.key)) { [objects] (key) async throws(StoreError) in
                try await objects.copyKey(key, to: self.destination(of: key))
            }
            if let failed = try await objects.removeAll(page.map(\.key)).first { throw failed.error }
        }
    }

    private func inParallel(
        _ keys: [ByteString], _ body: @escaping @Sendable (ByteString) async throws(StoreError) -> Void
    ) async throws(StoreError) {
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, key) in keys.enumerated() {
                    if index >= Self.parallel { try await group.next() }
                    group.addTask { try await body(key) }
                }
                try await group.waitForAll()
            }
        } catch let error as StoreError { throw error } catch {
            throw StoreError(.cancelled, "the rename was cancelled")
        }
    }
}

extension RenameWork {
    /// Completes what a crash has interrupted on a store. A rename that never began is forgotten: nobody was told that it
    /// was done. Returns those that are complete, to be finished by the caller, and those that cannot be now, with the reason.
    static func recover(
        _ objects: any ObjectWriting, journal: Journal
    ) async -> (done: [RenameWork], failed: [(rename: RenameRecord, error: StoreError)]) {
        var done: [RenameWork] = []
        var failed: [(RenameRecord, StoreError)] = []
        for rename in (try? journal.unfinishedRenames()) ?? [] where rename.store == objects.identity {
            let work = RenameWork(rename, objects, journal: journal)
            do throws(StoreError) {
                _ = try await work.run()
                done.append(work)
            } catch {
                let isOver = error.kind == .notFound || error.kind == .versionChanged
                if isOver, !rename.isTree {
                    try? journal.removeRename(rename.number)
                } else {
                    failed.append((rename, error))
                }
            }
        }
        return (done, failed)
    }
}
