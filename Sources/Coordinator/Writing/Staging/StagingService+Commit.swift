import Coordination
import LMDB
import Platform
import SystemPackage
import UnderStores

extension StagingService {
    /// Makes what was written so far lasting, by the write type: for `cacheThrough` and `through` the object has it when
    /// this returns; for `asyncThrough` the node has it, and uploads it later; `mustCache` stays on the node.
    ///
    /// A file is committed once at a time: who asks while a commit is under way shares the one after it.
    ///
    /// - Parameter written: whether the caller has written since its last commit; nil when it cannot know, because the
    ///   kernel writes past it (FUSE passthrough). Then an fsync also finds stores through a mapping, which leave no
    ///   trace in the file's times, by reading the file.
    /// - Returns: the object's attributes after an upload; nil when nothing was uploaded, because nothing was changed or
    ///   the node keeps it.
    /// - Throws: ESTALE when somebody else has changed the object (the file is among `conflicts` then); EIO, EACCES,
    ///   ENOSPC, EFBIG when it cannot be uploaded now (it is kept, and tried again in the background).
    @discardableResult
    package func commit(
        _ file: StagedFile, _ demand: CommitDemand, written: Bool? = nil
    ) async throws(CoordinationError) -> ObjectAttributes? {
        try checkCurrent(file)
        let type = file.writeType
        if type == .mustCache || (type == .asyncThrough && demand != .background) {
            let note = { @Sendable [self] () throws(CoordinationError) in
                do throws(StagingFailure) { return try acknowledge(file, demand) } catch {
                    throw CoordinationError(error, file.path)
                }
            }
            // Only fsync(2) waits for the disk.
            let isChanged = demand == .synchronize ? try await blocking(note) : try await blockingBriefly(note)
            if isChanged, type == .asyncThrough { enqueue(file, lingers: true) }
            return nil
        }
        let inspects = demand == .synchronize && written == nil
        return try await join(file, isUrgent: demand != .background, inspects: inspects).get()
    }

    /// ESTALE for a file that is no longer the content of its path, unless it was unlinked.
    func checkCurrent(_ file: StagedFile) throws(CoordinationError) {
        if case .conflicted(let reason, _) = file.state.withLock({ $0.phase }) {
            throw CoordinationError(
                .staleNFSFileHandle, "\(file.path): \(reason); what was written is listed by larder conflicts")
        }
    }

    /// Waits for a flight that starts from now on, and so sees all that was written before.
    func join(
        _ file: StagedFile, isUrgent: Bool, inspects: Bool
    ) async -> Result<ObjectAttributes?, CoordinationError> {
        let minimum = file.state.withLock { $0.flights + 1 }
        while true {
            let flight = file.state.withLock { state -> StagedFile.Flight? in
                if let flight = state.flight { return flight }
                guard state.holds == 0 else { return nil }
                state.flights += 1
                let task = Task(executorPreference: pool) { [self] in
                    let result = await fly(file, isUrgent: isUrgent, inspects: inspects)
                    await land(file, result)
                    file.state.withLock { $0.flight = nil }
                    wakeRoomWaiters()
                    return result
                }
                state.isQueued = false
                let flight = StagedFile.Flight(number: state.flights, task: task)
                state.flight = flight
                return flight
            }
            guard let flight else {
                await waitForName(of: file)
                continue
            }
            let result = await flight.task.value
            // A flight that was under way may have missed what the caller wrote, or looked less closely.
            if flight.number >= minimum { return result }
        }
    }

    /// Notes that close(2) or fsync(2) returns. Returns whether there is something to upload. Blocks.
    private func acknowledge(_ file: StagedFile, _ demand: CommitDemand) throws(StagingFailure) -> Bool {
        let now: FileSnapshot
        do throws(Errno) { now = FileSnapshot(try file.status()) } catch { throw .disk(error) }
        file.file.account()
        let isDirty = file.isDirty(now)
        guard file.isCurrent else { return false }
        if isDirty {
            let isNew = file.state.withLock { state in
                defer { state.acknowledged = now }
                guard let known = state.acknowledged, known.looksLike(now) else {
                    state.isDurable = false
                    return true
                }
                return false
            }
            if isNew {
                // Nobody waits at a release: a record that says that it is being written has the same in the end.
                if demand == .release { saveSoon(file) } else { try save(file) }
            }
        }
        if demand == .synchronize { try makeDurable(file) }
        return isDirty
    }

    /// Makes what was acknowledged survive a crash of the machine. Blocks for the disk.
    func makeDurable(_ file: StagedFile) throws(StagingFailure) {
        do throws(Errno) { try file.file.synchronize() } catch { throw .disk(error) }
        let isChanged = file.state.withLock { state in
            defer { state.isDurable = true }
            return !state.isDurable
        }
        if isChanged { try save(file) }
        do throws(LMDBError) { try journal.synchronize() } catch { throw .journal(error) }
    }
}
