import Platform
import UnderStores

extension StagingService {
    // Contents that wait for certainty; more than a few only while a store keeps failing without an answer.
    private static let remembered = 16

    /// Runs the step that makes the object, under the file's condition.
    ///
    /// The answer to an earlier attempt may have been lost, with this process or with the connection: then the condition
    /// fails because of our own object. The contents of such attempts are in the journal, and the object is read to see
    /// whether it is one of them.
    func attempt(
        _ file: StagedFile, _ content: ContentPrint,
        _ step: (WriteCondition) async throws(StoreError) -> ObjectAttributes
    ) async throws(StagingFailure) -> ObjectAttributes {
        var uncertain = file.state.withLock { $0.attempts }
        try await remember(file, content)
        while true {
            guard !isClosed else { throw .closed }
            let base = file.base
            do throws(StoreError) { return try await step(base) } catch {
                guard !isClosed else { throw .closed }
                if let made = error.made {
                    // What is in the way of the next attempt is ours.
                    file.state.withLock { state in
                        state.target.base = .version(made)
                        (state.known, state.content, state.snapshot) = (nil, nil, nil)
                    }
                    await replaceAttempts(of: file, with: Self.isCertain(error) ? [] : [content])
                    throw .store(error)
                }
                let mayBeOurs = error.kind == .versionChanged || error.kind == .notFound
                guard mayBeOurs, !uncertain.isEmpty else {
                    if Self.isCertain(error) { await replaceAttempts(of: file, with: uncertain) }
                    throw .store(error)
                }
                guard let (found, print) = try await recognise(file, among: uncertain + [content]) else {
                    await replaceAttempts(of: file, with: [])
                    throw .store(error)
                }
                if print == content { return found }
                // An older content of this file: the condition is now that nobody else has replaced it.
                uncertain = []
                file.state.withLock { state in
                    state.target.base = found.version.map { .version($0) } ?? .none
                    (state.known, state.content, state.snapshot) = (nil, nil, nil)
                }
                await replaceAttempts(of: file, with: [content])
                if error.kind == .notFound { throw .uploadGone }
            }
        }
    }

    /// Whether an error says that the object was not made.
    static func isCertain(_ error: StoreError) -> Bool {
        switch error.kind {
        case .unavailable, .protocolViolation, .cancelled: false
        default: true
        }
    }

    private func remember(_ file: StagedFile, _ content: ContentPrint) async throws(StagingFailure) {
        let isNew = file.state.withLock { state in
            guard state.attempts.last != content else { return false }
            state.attempts = Array((state.attempts + [content]).suffix(Self.remembered))
            return true
        }
        guard isNew else { return }
        try await blocking { [self] () throws(StagingFailure) in try save(file) }
    }

    private func replaceAttempts(of file: StagedFile, with attempts: [ContentPrint]) async {
        file.state.withLock { $0.attempts = attempts }
        await blocking { [self] in saveOrReport(file) }
    }

    /// Makes sure what the store has of a file whose commits may have ended without an answer. No commit is under way.
    func settleAttempts(of file: StagedFile) async throws(StagingFailure) {
        let uncertain = file.state.withLock { $0.attempts }
        guard !uncertain.isEmpty else { return }
        if let (found, _) = try await recognise(file, among: uncertain) {
            file.state.withLock { state in
                state.target.base = found.version.map { .version($0) } ?? .none
                (state.known, state.content, state.snapshot) = (nil, nil, nil)
            }
        }
        await replaceAttempts(of: file, with: [])
    }

    /// The object, if it has one of these contents; nil when it has another or is not there.
    private func recognise(
        _ file: StagedFile, among contents: [ContentPrint]
    ) async throws(StagingFailure) -> (ObjectAttributes, ContentPrint)? {
        let target = file.target
        do throws(StoreError) {
            guard let found = try await target.store.lookup(target.path), found.kind == .file,
                contents.contains(where: { $0.size == found.size })
            else { return nil }
            let sink = PrintSink(configuration.parts)
            if found.size > 0 {
                try await target.store.read(target.path, range: 0..<found.size, expecting: found.version, into: sink)
            }
            let print = sink.print
            return contents.contains(print) ? (found, print) : nil
        } catch {
            // Replaced between the two steps: it is somebody else's, then.
            if error.kind == .versionChanged || error.kind == .notFound { return nil }
            throw .store(error)
        }
    }

    private final class PrintSink: ReadSink {
        private let reader: Lock<ContentReader>
        init(_ layout: UploadPartLayout) { reader = Lock(ContentReader(layout)) }
        func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) { reader.withLock { $0.update(bytes) } }
        var print: ContentPrint { ContentPrint(parts: reader.withLock { $0.fingerprints }) }
    }

    // MARK: A file as a whole

    func put(
        _ file: StagedFile, _ target: StagedTarget, _ metadata: WrittenMetadata, size: UInt64, isUrgent: Bool
    ) async throws(StagingFailure) -> CommitOutcome {
        let content = try await read(file, 0..<size, withMD5: target.store.wantsMD5)
        let descriptor: Descriptor
        do { descriptor = try file.descriptor() } catch { throw .disk(error) }
        let body = UploadBody(
            file: descriptor, range: 0..<size, checksum: content.print.crc32c, md5: content.md5)
        await budget.acquire(size, isUrgent: isUrgent)
        defer { budget.release(size) }
        let look = await takeLook(of: file)
        let attributes = try await attempt(file, ContentPrint(parts: [content.print])) {
            (condition) async throws(StoreError) in
            try await target.store.put(target.path, body, metadata, if: condition, seen: look)
        }
        return CommitOutcome(attributes: attributes, parts: [content], usedUpload: false, lacksMetadata: false)
    }
}
