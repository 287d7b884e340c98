import LMDB
import Platform
import SystemPackage
import UnderStores

extension StagingService {
    // Parts that one commit reads or sends at once; the budget bounds what all of them send.
    private static let window = 8

    /// Uploads what the store does not have of the file yet, part by part, and completes the upload.
    func uploadParts(
        _ file: StagedFile, _ target: StagedTarget, _ metadata: WrittenMetadata, size: UInt64, isUrgent: Bool
    ) async throws(StagingFailure) -> CommitOutcome {
        let session = try await session(of: file, target, metadata)
        session.stop()
        let ranges = configuration.parts.ranges(of: size)
        guard ranges.count <= target.store.limits.parts else {
            throw .store(StoreError(.tooLarge, "\(target.path) has more parts than its store takes"))
        }
        let contents: [PartContent]
        do throws(StagingFailure) {
            contents = try await bring(ranges, of: file, target, session, isUrgent: isUrgent)
            // A part beyond an end that has moved back.
            await session.close()
        } catch {
            await session.close()
            if case .uploadGone = error { forgetUpload(of: file) }
            throw error
        }
        let attributes: ObjectAttributes
        do throws(StagingFailure) {
            attributes = try await attempt(file, ContentPrint(parts: contents.map(\.print))) {
                (condition) async throws(StoreError) in
                try await target.store.completeUpload(
                    session.upload, of: target.path,
                    parts: (1...ranges.count).compactMap { session.part($0)?.part }, size: size, if: condition)
            }
        } catch {
            switch error {
            case .store(let error) where error.kind == .notFound:
                forgetUpload(of: file)
                throw .uploadGone
            case .uploadGone: forgetUpload(of: file)
            default: break
            }
            throw error
        }
        guard lacks(metadata, session, file) else {
            return CommitOutcome(attributes: attributes, parts: contents, usedUpload: true, lacksMetadata: false)
        }
        guard let corrected = await correct(metadata, of: target, attributes) else {
            return CommitOutcome(attributes: attributes, parts: contents, usedUpload: true, lacksMetadata: true)
        }
        return CommitOutcome(attributes: corrected, parts: contents, usedUpload: true, lacksMetadata: false)
    }

    /// The upload that is under way, or a new one.
    private func session(
        of file: StagedFile, _ target: StagedTarget, _ metadata: WrittenMetadata
    ) async throws(StagingFailure) -> UploadSession {
        if let known = file.state.withLock({ $0.upload }) {
            if known.path == target.path { return known }
            forgetUpload(of: file)
            abandon(known, of: target)
        }
        return try await begin(file, target, metadata)
    }

    /// Begins an upload and journals it, so that a successor can go on with it or abort it.
    func begin(
        _ file: StagedFile, _ target: StagedTarget, _ metadata: WrittenMetadata
    ) async throws(StagingFailure) -> UploadSession {
        let intent = try await blocking { [self] () throws(StagingFailure) in try noteIntent(target) }
        let upload: UploadID
        do throws(StoreError) { upload = try await target.store.beginUpload(target.path, metadata) } catch {
            // Without an answer there may be one: the next start looks.
            if Self.isCertain(error) { await blocking { [journal] in try? journal.removeUpload(intent) } }
            throw .store(error)
        }
        guard !isClosed else { throw .closed }
        let session = UploadSession(upload, path: target.path, metadata: metadata)
        file.state.withLock { $0.upload = session }
        do throws(StagingFailure) {
            try await blocking { [self] () throws(StagingFailure) in
                do throws(LMDBError) {
                    try journal.update { (transaction) throws(LMDBError) in
                        try journal.put(file.record(), number: file.number, transaction)
                        try journal.removeUpload(intent, transaction)
                    }
                } catch { throw .journal(error) }
            }
        } catch {
            file.state.withLock { $0.upload = nil }
            abandon(session, of: target)
            throw error
        }
        return session
    }

    /// Notes that an upload is about to begin. Blocks.
    private func noteIntent(_ target: StagedTarget) throws(StagingFailure) -> UInt64 {
        do throws(LMDBError) {
            let number = try journal.nextNumber()
            try journal.put(
                AbandonedUpload(
                    number: number, store: target.store.identity.text, path: target.path, upload: .unknown))
            return number
        } catch { throw .journal(error) }
    }

    /// Nothing of the upload is left in the store.
    func forgetUpload(of file: StagedFile) {
        file.state.withLock { $0.upload = nil }
        try? journal.removeParts(of: file.number)
        saveOrReport(file)
    }

    /// Reads every part and has the store hold it as it was read. Returns the contents in order.
    private func bring(
        _ ranges: [Range<UInt64>], of file: StagedFile, _ target: StagedTarget, _ session: UploadSession,
        isUrgent: Bool
    ) async throws(StagingFailure) -> [PartContent] {
        let known = unchangedParts(of: file, target)
        let reader = target.store.wantsMD5 ? PartReader() : nil
        let progress = Lock(Progress(contents: Array(repeating: nil, count: ranges.count)))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<min(Self.window, ranges.count) {
                group.addTask(executorPreference: pool) { [self] in
                    while let index = progress.withLock({ $0.take() }) {
                        let copied = index < known.count ? known[index] : nil
                        do throws(StagingFailure) {
                            let content = try await bringPart(
                                index + 1, ranges, of: file, target, session, known: copied, reader, isUrgent: isUrgent)
                            progress.withLock { $0.contents[index] = content }
                        } catch {
                            progress.withLock { $0.failure = $0.failure ?? error }
                        }
                    }
                }
            }
        }
        let (contents, failure) = progress.withLock { ($0.contents, $0.failure) }
        if let failure { throw failure }
        return contents.compactMap { $0 }
    }

    /// How far a commit is with its parts.
    private struct Progress {
        var contents: [PartContent?]
        var failure: StagingFailure?
        private var next = 0

        init(contents: [PartContent?]) { self.contents = contents }

        /// The index of a part that nobody has begun; nil at the end, or after a failure.
        mutating func take() -> Int? {
            guard failure == nil, next < contents.count else { return nil }
            defer { next += 1 }
            return next
        }
    }

    /// What the base version has in each part, where that is known.
    private func unchangedParts(of file: StagedFile, _ target: StagedTarget) -> [Fingerprint] {
        guard case .version = target.base, let known = file.state.withLock({ $0.known }), known.version == target.base
        else { return [] }
        let parts = known.parts
        return parts.reduce(0) { $0 + $1.length } > configuration.largeFile ? parts : []
    }

    /// - Parameter reader: of parts that are not there yet; nil: each is read for itself.
    private func bringPart(
        _ number: Int, _ ranges: [Range<UInt64>], of file: StagedFile, _ target: StagedTarget,
        _ session: UploadSession, known: Fingerprint?, _ reader: PartReader?, isUrgent: Bool
    ) async throws(StagingFailure) -> PartContent {
        await session.finish(number)
        let range = ranges[number - 1]
        let content: PartContent
        if let reader, known == nil, session.part(number) == nil {
            content = try await reader.content(number, upTo: ranges.count, of: file, session, self) {
                ranges[$0 - 1]
            }
        } else {
            content = try await read(file, range)
        }
        if let there = session.part(number), there.print == content.print { return content }
        if known == content.print, UInt64(range.count) >= target.store.limits.smallestPart,
            case .version(let version) = target.base,
            try await copyPart(number, range, content.print, of: file, target, version, session)
        {
            return content
        }
        try await send(number, range, content, of: file, target, session, isUrgent: isUrgent)
        return content
    }

    /// Has the store take a part from the object that is replaced; false when it cannot.
    private func copyPart(
        _ number: Int, _ range: Range<UInt64>, _ print: Fingerprint, of file: StagedFile, _ target: StagedTarget,
        _ version: ObjectVersion, _ session: UploadSession
    ) async throws(StagingFailure) -> Bool {
        let part: UploadedPart
        do throws(StoreError) {
            part = try await target.store.copyPart(
                session.upload, of: target.path, number: number, from: target.path, range: range, expecting: version)
        } catch {
            if error.kind == .unavailable || error.kind == .cancelled { throw .store(error) }
            return false
        }
        try await note(StagedPart(print: print, part: part), of: file, session)
        return true
    }

    /// Uploads one part; the store checks that it gets what was read.
    func send(
        _ number: Int, _ range: Range<UInt64>, _ content: PartContent, of file: StagedFile, _ target: StagedTarget,
        _ session: UploadSession, isUrgent: Bool
    ) async throws(StagingFailure) {
        let descriptor: Descriptor
        do { descriptor = try file.descriptor() } catch { throw .disk(error) }
        await budget.acquire(UInt64(range.count), isUrgent: isUrgent)
        defer { budget.release(UInt64(range.count)) }
        guard !isClosed else { throw .closed }
        let part: UploadedPart
        do throws(StoreError) {
            part = try await target.store.uploadPart(
                session.upload, of: target.path, number: number,
                UploadBody(file: descriptor, range: range, checksum: content.print.crc32c, md5: content.md5))
        } catch {
            throw error.kind == .notFound ? .uploadGone : .store(error)
        }
        try await note(StagedPart(print: content.print, part: part), of: file, session)
    }

    private func note(
        _ part: StagedPart, of file: StagedFile, _ session: UploadSession
    ) async throws(StagingFailure) {
        guard !isClosed else { throw .closed }
        session.note(part)
        // Lost with a crash, the part is uploaded again: no reason to fail.
        await blocking { [self] in
            guard file.state.withLock({ $0.upload === session }) else { return }
            try? journal.put(part, of: file.number)
        }
    }

    // MARK: Metadata

    /// Whether the upload was begun with other metadata than the object must have. The time of the last write is not
    /// worth a copy of the object; one that utimensat(2) has set is.
    private func lacks(_ metadata: WrittenMetadata, _ session: UploadSession, _ file: StagedFile) -> Bool {
        var (begun, wanted) = (session.metadata, metadata)
        if file.target.metadata.modified != metadata.modified {
            begun.modified = nil
            wanted.modified = nil
        }
        return begun != wanted
    }

    private func correct(
        _ metadata: WrittenMetadata, of target: StagedTarget, _ attributes: ObjectAttributes
    ) async -> ObjectAttributes? {
        let condition = attributes.version.map { WriteCondition.version($0) } ?? .none
        do throws(StoreError) {
            return try await target.store.copy(
                target.path, expecting: attributes.version, to: target.path, metadata: metadata, if: condition)
        } catch {
            logger.warning(
                "an object has older metadata than its file for now",
                metadata: ["path": "\(target.path)", "reason": "\(error)"])
            return nil
        }
    }

    // MARK: Uploads that nobody needs

    /// Has the store drop an upload, now or when it can be reached.
    func abandon(_ session: UploadSession, of target: StagedTarget) {
        do {
            let number = try journal.nextNumber()
            let upload = AbandonedUpload(
                number: number, store: target.store.identity.text, path: session.path, upload: session.upload)
            try journal.put(upload)
            abort(upload, in: target.store)
        } catch {
            if !isClosed { logger.error("an upload cannot be noted for removal: \(error)") }
        }
    }

    func abort(_ upload: AbandonedUpload, in store: any ObjectWriting) {
        Task(executorPreference: pool) { [self] in
            do throws(StoreError) { try await store.abortUpload(upload.upload, of: upload.path) } catch {
                logger.debug("an upload is dropped at the next start", metadata: ["reason": "\(error)"])
                return
            }
            try? journal.removeUpload(upload.number)
        }
    }
}
