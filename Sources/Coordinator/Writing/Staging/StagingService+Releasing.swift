import BlockCaching
import Coordination
import LMDB
import Platform
import SystemPackage
import UnderStores

extension StagingService {
    /// The last writer has gone. A clean file becomes a file of the cache, or goes; what is dirty is committed as a close
    /// would, without waiting: what fails is among `pending`.
    ///
    /// - Parameter mapped: whether a writer may have had the file itself mapped (FUSE passthrough), whose stores leave no
    ///   trace in its times: then the file is read before it is taken for clean.
    package func release(_ file: StagedFile, mapped: Bool = true) async {
        file.state.withLock { state in
            state.isReleased = true
            state.isAwaited = false
        }
        await end(file, mapped: mapped)
    }

    /// Ends a file that was released, unless a writer comes back meanwhile.
    func end(_ file: StagedFile, mapped: Bool) async {
        file.file.unreserve()
        guard file.isCurrent else {
            if file.state.withLock({ $0.phase != .finished }) { file.file.closeDescriptor() }
            return
        }
        switch file.writeType {
        case .mustCache:
            _ = try? await commit(file, .release)
            file.file.closeDescriptor()
        case .asyncThrough:
            // Acknowledged before it is uploaded, as a close: the order of uploads is that of closes.
            _ = try? await commit(file, .release)
            // What is dirty has been acknowledged and is queued.
            if file.isDirty {
                file.file.closeDescriptor()
            } else {
                _ = await join(file, isUrgent: false, inspects: mapped)
            }
        case .cacheThrough, .through:
            if file.isDirty { enqueue(file) } else { _ = await join(file, isUrgent: false, inspects: mapped) }
        }
    }

    /// Another writer comes before the file has gone. False when it is too late: the object is opened then.
    package func reopen(_ file: StagedFile) -> Bool {
        let isThere = file.state.withLock { state in
            guard state.phase == .current else { return false }
            state.isReleased = false
            state.isAwaited = false
            state.returns += 1
            return true
        }
        if isThere { watchGrowth() }
        return isThere
    }

    /// What follows a flight: the file goes when nobody needs it, or the next upload is planned. Pool.
    func land(_ file: StagedFile, _ result: Result<ObjectAttributes?, CoordinationError>) async {
        guard !isClosed, case .success = result else { return }
        let returns = file.state.withLock { $0.returns }
        let isDirty = file.isDirty
        let (isReleased, isAcknowledged, phase) = file.state.withLock {
            ($0.isReleased, $0.acknowledged != nil, $0.phase)
        }
        guard phase == .current else { return }
        if isDirty {
            if isReleased || isAcknowledged { scheduleRetry(file) }
        } else if isReleased, file.writeType != .mustCache {
            await waitForLook(at: file)
            await blocking { [self] in finish(file, unlessBeyond: returns) }
        }
    }

    /// Ends a file that was seen to be clean after `returns`, and has no writer. Blocks.
    private func finish(_ file: StagedFile, unlessBeyond returns: UInt64) {
        let known = file.state.withLock { state -> (target: StagedTarget, known: StagedFile.Known?)? in
            // What was set since the last look would be lost with the file.
            guard state.phase == .current, state.isReleased, !state.hasNewMetadata, state.returns == returns else {
                return nil
            }
            state.phase = .finished
            return (state.target, state.known)
        }
        guard let (target, content) = known else {
            // Somebody has come, written and gone since it was seen to be clean.
            if file.state.withLock({ $0.isReleased && $0.returns != returns }) { enqueue(file) }
            if file.state.withLock({ $0.isReleased && $0.hasNewMetadata }) { scheduleRetry(file) }
            return
        }
        if target.writeType != .through, let content, let id = Self.cachedID(target, content) {
            _ = cache.adopt(file.file, as: id, checksums: content.blocks)
        }
        // Nothing is left to do when it was adopted.
        file.file.remove()
        file.file.leave()
        try? journal.removeStaged(file.number)
        state.withLock { $0.files[file.number] = nil }
        wakeRoomWaiters()
        events.finished(file)
    }

    private static func cachedID(_ target: StagedTarget, _ known: StagedFile.Known) -> CachedObjectID? {
        guard let attributes = known.attributes, let version = attributes.version else { return nil }
        return CachedObjectID(
            store: target.store.identity.text, key: target.path, version: version.bytes, size: known.print.size)
    }

    /// The name is gone: nothing of the file is committed any more; who has it open goes on. Waits for a commit under way.
    /// - Returns: what the store has of it: `.absent` when there is nothing to remove.
    @discardableResult
    package func discard(_ file: StagedFile) async -> WriteCondition {
        let isKept = file.state.withLock { state in
            if state.phase == .current { state.phase = .discarded }
            if case .conflicted = state.phase { return true }
            return false
        }
        // A person judges what lost a race.
        if isKept { return file.base }
        await waitForFlight(file)
        let (target, session) = file.state.withLock { state in
            defer { state.upload = nil }
            return (state.target, state.upload)
        }
        await session?.close()
        await blocking { [self] in
            _ = try? file.descriptor()  // who asks later still gets it
            if let session { abandon(session, of: target) }
            forget(file)
            if file.state.withLock({ $0.isReleased }) { file.file.closeDescriptor() }
        }
        return target.base
    }

    func waitForFlight(_ file: StagedFile) async {
        while let flight = file.state.withLock({ $0.flight }) { _ = await flight.task.value }
    }

    /// What a move of a staged file comes with.
    package struct Move: Sendable {
        /// What the store has at the new path.
        package var base: WriteCondition
        /// Whether that has the bytes that the store had at the old path; else the file is dirty from then on.
        package var isCopied = false
        /// The staged file of the new path until now. It is void in the same step; the caller discards it.
        package var replaced: StagedFile?
        /// The operation that is done with this step, in case that it is sent again.
        package var answers: (client: ByteString, operation: UInt64)?

        package init(base: WriteCondition, isCopied: Bool = false) {
            self.base = base
            self.isCopied = isCopied
        }
    }

    /// The file belongs to another path now. The caller holds it (`holding`), and the replaced one.
    package func move(_ file: StagedFile, to path: ByteString, _ move: Move) async throws(CoordinationError) {
        let former = file.state.withLock { state in
            defer {
                state.target.path = path
                state.target.base = move.base
                state.look = nil
                if !move.isCopied { (state.snapshot, state.content, state.known) = (nil, nil, nil) }
            }
            return (target: state.target, snapshot: state.snapshot, content: state.content, known: state.known)
        }
        await file.state.withLock { $0.beginning }?.value
        let session = file.state.withLock { state -> UploadSession? in
            guard state.upload?.path != path else { return nil }
            defer { state.upload = nil }
            return state.upload
        }
        await session?.close()
        do throws(StagingFailure) {
            try await blocking { [self] () throws(StagingFailure) in
                try describe(file)
                do throws(LMDBError) { try write(move, of: file) } catch { throw .journal(error) }
                if let session { abandon(session, of: former.target) }
            }
        } catch {
            file.state.withLock { state in
                (state.target.path, state.target.base) = (former.target.path, former.target.base)
                (state.snapshot, state.content, state.known) = (former.snapshot, former.content, former.known)
            }
            throw CoordinationError(error, path)
        }
    }

    /// Journals a move with all that comes with it, in one step.
    private func write(_ move: Move, of file: StagedFile) throws(LMDBError) {
        try journal.update { (transaction) throws(LMDBError) in
            let record = file.record()
            var void = move.replaced?.record()
            void?.state = .void
            if record.upload == nil { try journal.removeParts(of: file.number, transaction) }
            try journal.put(record, number: file.number, transaction)
            if let replaced = move.replaced, let void {
                try journal.put(void, number: replaced.number, transaction)
            }
            if let (client, operation) = move.answers, let done = OperationLog.done {
                try journal.note(done, of: operation, by: client, transaction)
            }
        }
    }

    /// Rewrites the file's description, which is no change of its content. Blocks.
    private func describe(_ file: StagedFile) throws(StagingFailure) {
        do throws(Errno) {
            try keepingClean(file) { () throws(Errno) in try file.file.describe(StagedDescription(file.target).text) }
        } catch {
            throw .disk(error)
        }
    }

    /// Changes what is to be written beside the bytes; its `modified` and `accessed`, where they differ from before, become
    /// the file's own. The next commit brings it to the store. Does not wait for a commit under way.
    /// - Returns: false when the file is finished: the object has the truth, and nothing was changed.
    @discardableResult
    package func setMetadata(_ file: StagedFile, _ metadata: WrittenMetadata) async throws(CoordinationError) -> Bool {
        let previous = file.state.withLock { state -> WrittenMetadata? in
            if state.phase == .finished { return nil }
            defer {
                if state.target.metadata != metadata {
                    state.target.metadata = metadata
                    state.hasNewMetadata = true
                }
            }
            return state.target.metadata
        }
        guard let previous else { return false }
        var times = WrittenMetadata()
        if metadata.modified != previous.modified { times.modified = metadata.modified }
        if metadata.accessed != previous.accessed { times.accessed = metadata.accessed }
        let stamp = times
        try await blocking { [self] () throws(CoordinationError) in
            do throws(StagingFailure) {
                do throws(Errno) {
                    try keepingClean(file) { () throws(Errno) in try stampTimes(stamp, of: file.file) }
                } catch { throw StagingFailure.disk(error) }
                try save(file)
            } catch {
                throw CoordinationError(error, file.path)
            }
        }
        return true
    }

    /// Runs a change of the file's inode that is none of its content: a clean file stays so, but for a writer who comes in
    /// between.
    private func keepingClean(_ file: StagedFile, _ body: () throws(Errno) -> Void) throws(Errno) {
        let before = FileSnapshot(try file.status())
        try body()
        let after = FileSnapshot(try file.status())
        file.state.withLock { state in
            guard before.size == after.size else { return }
            if state.snapshot?.looksLike(before) == true {
                state.snapshot = after
                if !state.isReleased { state.isDoubtful = true }
            }
            if state.acknowledged?.looksLike(before) == true { state.acknowledged = after }
        }
    }
}
