import BlockCaching
import Coordination
import Glibc
import Platform
import SystemPackage
import UnderStores

extension StagingService {
    // A writer that never pauses must not keep its own close(2) for ever.
    private static let rounds = 4

    /// Brings the file's content of now to the store, if the store lacks it. Pool.
    func fly(
        _ file: StagedFile, isUrgent: Bool, inspects: Bool
    ) async -> Result<ObjectAttributes?, CoordinationError> {
        await file.state.withLock { $0.beginning }?.value
        var last = StagingFailure.changed
        for round in 0..<Self.rounds {
            await waitForLook(at: file)
            guard !isClosed else { return fail(file, .closed) }
            // The race may have been lost by the flight before, while who asked for this one was waiting.
            do throws(CoordinationError) { try checkCurrent(file) } catch { return .failure(error) }
            guard file.isCurrent else { return .success(file.committed) }
            let before: FileSnapshot
            do throws(Errno) { before = try quietSnapshot(of: file) } catch { return fail(file, .disk(error)) }
            file.file.account()
            do throws(StagingFailure) {
                guard try await mustUpload(file, before, inspects: inspects) else { return .success(file.committed) }
                let attributes = try await upload(file, before, isUrgent: isUrgent)
                let after = (try? FileSnapshot(file.status())) ?? before
                // Writers that are still there have their own close to come.
                if after.looksLike(before) || !file.state.withLock({ $0.isReleased }) { return .success(attributes) }
            } catch {
                last = error
                guard mayRepeat(error, file, since: before), round + 1 < Self.rounds else { break }
            }
        }
        return fail(file, last)
    }

    /// How the file looks at a moment when nobody is in the middle of a write(2), so that what is read afterwards has all
    /// that is behind these times.
    ///
    /// The kernel moves the times before it copies the bytes, and holds the inode's lock over both. chmod(2) takes that
    /// lock, so it returns when a write that had moved the times before has ended; one that begins later moves them again.
    private func quietSnapshot(of file: StagedFile) throws(Errno) -> FileSnapshot {
        let descriptor = try file.descriptor()
        var before = FileSnapshot(try descriptor.status())
        for _ in 0..<3 {
            if file.state.withLock({ $0.snapshot?.looksLike(before) == true }) { return before }
            guard fchmod(descriptor.raw, 0o600) == 0 else { throw Errno(rawValue: errno) }
            let after = FileSnapshot(try descriptor.status())
            if after.modified == before.modified, after.size == before.size { return after }
            before = after
        }
        // Written without a pause: the next commit compares the bytes.
        before.isYoung = true
        return before
    }

    /// Whether the same again may well succeed at once.
    private func mayRepeat(_ failure: StagingFailure, _ file: StagedFile, since before: FileSnapshot) -> Bool {
        switch failure {
        case .changed, .uploadGone: true
        case .store(let error) where error.kind == .versionChanged: false
        // The bytes no longer had the checksum that was sent with them.
        case .store: (try? FileSnapshot(file.status()).looksLike(before)) == false
        case .disk, .journal, .closed: false
        }
    }

    /// Whether the object lacks something: by the file's times, and by its bytes where the times do not tell.
    private func mustUpload(
        _ file: StagedFile, _ now: FileSnapshot, inspects: Bool
    ) async throws(StagingFailure) -> Bool {
        let (looksSame, isUnsure, content) = file.state.withLock { state in
            defer { state.isDoubtful = false }
            return (
                state.snapshot?.looksLike(now) == true, state.isDoubtful || state.snapshot?.isYoung == true,
                state.content
            )
        }
        guard looksSame, isUnsure || inspects else { return file.isDirty(now) }
        var isSame = !isUnsure
        if let content {
            do throws(StagingFailure) {
                isSame = ContentPrint(parts: try await read(file, size: now.size).map(\.print)) == content
            } catch {
                file.state.withLock { $0.isDoubtful = true }
                throw error
            }
        }
        // What is not the same is dirty, also when the upload fails.
        file.state.withLock { $0.snapshot = isSame ? now : nil }
        return file.isDirty(now)
    }

    /// Reads all parts. Throws `.changed` when the file is shorter than `size`.
    func read(_ file: StagedFile, size: UInt64) async throws(StagingFailure) -> [PartContent] {
        var contents: [PartContent] = []
        for range in configuration.parts.ranges(of: size) { contents.append(try await read(file, range)) }
        return contents
    }

    /// - Parameter withMD5: for a store that wants it of what it is sent.
    func read(
        _ file: StagedFile, _ range: Range<UInt64>, withMD5: Bool = false
    ) async throws(StagingFailure) -> PartContent {
        let blockSize = file.file.blockSize
        let content: PartContent
        do throws(Errno) {
            content = try await blocking { () throws(Errno) in
                try PartContent.read(range, of: try file.descriptor(), blockSize: blockSize, withMD5: withMD5)
            }
        } catch { throw .disk(error) }
        guard content.print.length == UInt64(range.count) else { throw .changed }
        return content
    }

    private func upload(
        _ file: StagedFile, _ before: FileSnapshot, isUrgent: Bool
    ) async throws(StagingFailure) -> ObjectAttributes {
        let target = file.target
        guard before.size <= target.store.limits.largestObject else {
            throw .store(StoreError(.tooLarge, "\(target.path) has \(before.size) bytes, more than its store takes"))
        }
        var metadata = target.metadata
        metadata.modified = before.modified
        if let attributes = try await changeMetadata(file, target, metadata, before) { return attributes }
        let outcome: CommitOutcome
        if before.size <= configuration.parts.first {
            await file.state.withLock { $0.upload }?.close()
            outcome = try await put(file, target, metadata, size: before.size, isUrgent: isUrgent)
        } else {
            outcome = try await uploadParts(file, target, metadata, size: before.size, isUrgent: isUrgent)
        }
        guard !isClosed else { throw .closed }
        settle(file, outcome, before, target)
        logger.debug(
            "committed",
            metadata: [
                "path": "\(target.path)", "size": "\(before.size)",
                "version": "\(outcome.attributes.version?.description ?? "")",
            ])
        events.committed(file, outcome.attributes)
        if !outcome.usedUpload { lookAfter(file, outcome.attributes, target) }
        return outcome.attributes
    }

    /// Changes an object whose bytes are right already; nil when they are not, or it has to be uploaded anyway.
    private func changeMetadata(
        _ file: StagedFile, _ target: StagedTarget, _ metadata: WrittenMetadata, _ now: FileSnapshot
    ) async throws(StagingFailure) -> ObjectAttributes? {
        let isRight = file.state.withLock { $0.hasNewMetadata && $0.snapshot?.looksLike(now) == true }
        guard isRight, case .version(let version) = target.base else { return nil }
        let attributes: ObjectAttributes
        do throws(StoreError) {
            attributes = try await target.store.copy(
                target.path, expecting: version, to: target.path, metadata: metadata, if: target.base)
        } catch {
            if error.kind == .unsupported || error.kind == .versionChanged { return nil }
            throw .store(error)
        }
        guard !isClosed else { throw .closed }
        file.state.withLock { state in
            state.target.base = attributes.version.map { .version($0) } ?? .none
            state.known?.attributes = attributes
            state.known?.version = state.target.base
            if state.target.metadata == target.metadata { state.hasNewMetadata = false }
            state.lastError = nil
        }
        saveOrReport(file)
        events.committed(file, attributes)
        return attributes
    }

    /// The object has the content of `before`. Pool.
    private func settle(
        _ file: StagedFile, _ outcome: CommitOutcome, _ before: FileSnapshot, _ target: StagedTarget
    ) {
        let session = file.state.withLock { state -> UploadSession? in
            state.target.base = outcome.attributes.version.map { .version($0) } ?? .none
            state.snapshot = before
            let content = ContentPrint(parts: outcome.parts.map(\.print))
            state.content = content
            state.known = StagedFile.Known(
                attributes: outcome.attributes, print: content,
                parts: outcome.parts.map(\.print), version: state.target.base,
                blocks: outcome.parts.flatMap(\.blocks))
            state.attempts = []
            if state.target.metadata == target.metadata { state.hasNewMetadata = outcome.lacksMetadata }
            if state.acknowledged?.looksLike(before) == true { state.acknowledged = nil }
            state.lastError = nil
            state.failures = 0
            defer { state.upload = nil }
            return state.upload
        }
        saveOrReport(file)
        guard let session else { return }
        try? journal.removeParts(of: file.number)
        if !outcome.usedUpload { abandon(session, of: target) }
    }

    private func fail(
        _ file: StagedFile, _ failure: StagingFailure
    ) -> Result<ObjectAttributes?, CoordinationError> {
        let path = file.path
        let error = failure.storeError(path)
        if isClosed { return .failure(CoordinationError(.closed, path)) }
        if error.kind == .versionChanged {
            let reason = "the object was changed by somebody else since it was opened"
            logger.notice("a commit was refused", metadata: ["reason": "\(error.message)"])
            conflict(file, reason)
            return .failure(
                CoordinationError(
                    .staleNFSFileHandle, "\(path): \(reason); what was written is listed by larder conflicts"))
        }
        file.state.withLock { state in
            state.lastError = error
            state.failures += 1
        }
        saveOrReport(file)
        events.failed(file, error)
        scheduleRetry(file)
        return .failure(CoordinationError(failure, path))
    }
}

/// What the store has taken.
struct CommitOutcome {
    let attributes: ObjectAttributes
    let parts: [PartContent]
    let usedUpload: Bool
    /// The object has older metadata than the file.
    let lacksMetadata: Bool
}
