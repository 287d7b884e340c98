import BlockCaching
import Coordination
import Glibc
import LMDB
import Platform
import SystemPackage
import UnderStores

/// Data that lost a race for its object, or whose state after a crash is not certain.
package struct StagedConflict: Hashable, Sendable {
    package let number: UInt64
    /// Empty when nothing is known of where it belongs.
    package let store: StoreIdentity
    package let path: ByteString
    package let bytes: UInt64
    package let time: FileTime
    package let reason: String
}

extension StagingService {
    /// Moves a file from its path's content to the conflicts. Pool or blocking thread.
    func conflict(_ file: StagedFile, _ reason: String) {
        let session = file.state.withLock { state -> UploadSession? in
            state.phase = .conflicted(reason: reason, time: .now())
            defer { state.upload = nil }
            return state.upload
        }
        if let session { abandon(session, of: file.target) }
        try? journal.removeParts(of: file.number)
        saveOrReport(file)
        try? journal.synchronize()
        logger.warning("a write has lost a race", metadata: ["path": "\(file.path)", "reason": "\(reason)"])
        events.conflicted(file, reason)
    }

    /// Every conflict, oldest first. Blocks on the disk.
    package var conflicts: [StagedConflict] {
        let (live, dormant) = state.withLock { state in
            (Array(state.files.values), state.dormant.values.flatMap { $0 })
        }
        var found: [StagedConflict] = []
        for file in live {
            guard case .conflicted(let reason, let time) = file.state.withLock({ $0.phase }) else { continue }
            let target = file.target
            found.append(
                Self.entry(
                    file.number, target.store.identity.text, target.path, file.file, reason: reason, time: time))
        }
        for (number, record, file) in dormant {
            guard case .conflict(let reason, let time) = record.state else { continue }
            found.append(Self.entry(number, record.store, record.path, file, reason: reason, time: time))
        }
        return found.sorted { ($0.time, $0.number) < ($1.time, $1.number) }
    }

    private static func entry(
        _ number: UInt64, _ store: String, _ path: ByteString, _ file: StagingFile, reason: String, time: FileTime
    ) -> StagedConflict {
        StagedConflict(
            number: number, store: StoreIdentity(store), path: path,
            bytes: (try? file.descriptor().status().size) ?? 0, time: time, reason: reason)
    }

    /// What `restore` and `discardConflict` work on.
    private func found(_ number: UInt64) throws(CoordinationError) -> (StagingFile, StagedRecord) {
        let (live, dormant) = state.withLock { state in
            (state.files[number], state.dormant.values.flatMap { $0 }.first { $0.number == number })
        }
        if let live, case .conflicted = live.state.withLock({ $0.phase }) { return (live.file, live.record()) }
        if let dormant, case .conflict = dormant.record.state { return (dormant.file, dormant.record) }
        throw CoordinationError(.noSuchFileOrDirectory, "there is no conflict \(number); see larder conflicts")
    }

    /// Uploads the data of a conflict to `path` of the same store, where nothing may be (nil: beside the object, as
    /// `NAME.larder-conflict-NUMBER`), and ends the conflict. Returns where it is.
    /// - Throws: ENOENT when there is no such conflict; EEXIST; ENODEV when its store is not mounted; what the store says.
    package func restore(
        _ number: UInt64, to path: ByteString? = nil
    ) async throws(CoordinationError) -> (path: ByteString, attributes: ObjectAttributes) {
        let (file, record) = try found(number)
        guard let store = state.withLock({ $0.stores[record.store] }) else {
            throw CoordinationError(
                Errno(rawValue: ENODEV), "the store of conflict \(number) is not mounted; mount it first")
        }
        let destination = path ?? record.path + ByteString(".larder-conflict-\(number)")
        var target = StagedTarget(
            store: store, path: destination, base: .absent, metadata: record.metadata, writeType: .through, inode: 0)
        target.metadata.modified = nil
        // Under a number of its own: nothing of it is journaled, the conflict stays until the object is there.
        let copy = StagedFile(number: try freshNumber(destination), file: file, target: target)
        let attributes: ObjectAttributes
        do throws(StagingFailure) { attributes = try await send(copy, target) } catch {
            try? journal.removeStaged(copy.number)
            if case .store(let error) = error, error.kind == .versionChanged {
                throw CoordinationError(.fileExists, "\(destination) exists; choose another path")
            }
            throw CoordinationError(error, destination)
        }
        try? journal.removeStaged(copy.number)
        try await discardConflict(number)
        return (destination, attributes)
    }

    private func freshNumber(_ path: ByteString) throws(CoordinationError) -> UInt64 {
        do throws(LMDBError) { return try journal.nextNumber() } catch {
            throw CoordinationError(.journal(error), path)
        }
    }

    private func send(_ copy: StagedFile, _ target: StagedTarget) async throws(StagingFailure) -> ObjectAttributes {
        let size: UInt64
        do throws(Errno) { size = try copy.status().size } catch { throw .disk(error) }
        if size <= configuration.parts.first {
            let made = try await put(copy, target, target.metadata, size: size, isUrgent: true).attributes
            // The conflict ends with it, so this waits until the object is sure to be there.
            try await makeSure(of: made, target)
            return made
        }
        do throws(StagingFailure) {
            return try await uploadParts(copy, target, target.metadata, size: size, isUrgent: true).attributes
        } catch {
            if let session = copy.state.withLock({ $0.upload }) { abandon(session, of: target) }
            throw error
        }
    }

    /// Drops the data of a conflict. Throws ENOENT when there is no such conflict.
    package func discardConflict(_ number: UInt64) async throws(CoordinationError) {
        let (file, _) = try found(number)
        await blocking { [self] in
            file.remove()
            try? journal.removeStaged(number)
            state.withLock { state in
                state.files[number] = nil
                for key in state.dormant.keys { state.dormant[key]?.removeAll { $0.number == number } }
            }
        }
        wakeRoomWaiters()
    }
}
