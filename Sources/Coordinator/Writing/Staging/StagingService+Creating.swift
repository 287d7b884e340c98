import BlockCaching
import Coordination
import Glibc
import LMDB
import Platform
import SystemPackage
import UnderStores

/// What a staged file starts with.
package enum StagedContents: Sendable {
    case empty
    /// The bytes of the version that is the target's base.
    case object(CachedObject)
}

extension StagingService {
    /// Makes a staged file. With `.empty` it is dirty: its commit makes the object, also without a write.
    ///
    /// - Throws: ENOSPC when no tier takes it, also not after eviction; what the store said when the base cannot be read;
    ///   EIO.
    package func create(
        _ target: StagedTarget, contents: StagedContents = .empty
    ) async throws(CoordinationError) -> StagedFile { try await create(target, contents: contents, for: nil) }

    /// - Parameter operation: a creation, whose answer is noted with the file: it is done from then on.
    func create(
        _ target: StagedTarget, contents: StagedContents = .empty, for operation: OperationLog.Key?
    ) async throws(CoordinationError) -> StagedFile {
        note(target.store)
        let staged = try await blockingBriefly { [self] () throws(CoordinationError) in
            try make(target, isPreparing: { if case .object = contents { true } else { false } }(), operation)
        }
        if case .object(let object) = contents {
            do {
                try await fill(staged, from: object)
            } catch {
                await blocking { [self] in forget(staged) }
                throw error
            }
        }
        state.withLock { $0.files[staged.number] = staged }
        lookAhead(staged)
        watchGrowth()
        return staged
    }

    private func make(
        _ target: StagedTarget, isPreparing: Bool, _ operation: OperationLog.Key?
    ) throws(CoordinationError) -> StagedFile {
        do {
            let number = try journal.nextNumber()
            let file = try cache.makeStagingFile(number)
            let staged = StagedFile(number: number, file: file, target: target)
            do {
                var record = staged.record()
                if isPreparing { record.state = .void }
                try file.describe(StagedDescription(target).text)
                let answering = operation.flatMap { key in
                    OperationLog.answer(ofCreating: target.inode).map { (key: key, answer: $0) }
                }
                try journal.put(record, number: number, answering: answering)
                if !isPreparing { try stampTimes(target.metadata, of: file) }
            } catch {
                file.remove()
                throw error
            }
            return staged
        } catch CacheError.noTier {
            throw CoordinationError(.noSpace, "no cache directory takes \(target.path) now; see larder status")
        } catch let error as LMDBError {
            throw CoordinationError(.journal(error), target.path)
        } catch let error as Errno {
            throw CoordinationError(.disk(error), target.path)
        } catch {
            throw CoordinationError(.ioError, "\(target.path) cannot be staged: \(error)")
        }
    }

    /// Copies the base's bytes. The file counts in the journal only afterwards.
    private func fill(_ staged: StagedFile, from object: CachedObject) async throws(CoordinationError) {
        let size = object.id.size
        try await reserve(staged, size)
        do {
            let descriptor = try staged.descriptor()
            // On the pool: copying blocks.
            let parts = try await Task(executorPreference: pool) { [configuration] () throws -> [Fingerprint]? in
                guard size > configuration.largeFile else {
                    try await object.copy(to: descriptor)
                    return nil
                }
                let reader = Lock(ContentReader(configuration.parts))
                try await object.copy(to: descriptor) { bytes in reader.withLock { $0.update(bytes) } }
                return reader.withLock { $0.fingerprints }
            }.value
            try await blocking { [self] () throws in
                guard try descriptor.status().size == size else { throw Errno.ioError }
                try stampTimes(staged.target.metadata, of: staged.file)
                staged.file.account()
                staged.file.unreserve()
                let snapshot = try FileSnapshot(descriptor.status())
                staged.state.withLock { state in
                    state.snapshot = snapshot
                    state.content = parts.map { ContentPrint(parts: $0) }
                    state.known = parts.map {
                        StagedFile.Known(
                            attributes: nil, print: ContentPrint(parts: $0), parts: $0, version: state.target.base,
                            blocks: [])
                    }
                }
                try journal.put(staged.record(), number: staged.number)
            }
        } catch {
            throw CoordinationError(reading: error)
        }
    }

    /// The file's own times are the truth of what the object's will be.
    func stampTimes(_ metadata: WrittenMetadata, of file: StagingFile) throws(Errno) {
        guard metadata.modified != nil || metadata.accessed != nil else { return }
        try file.descriptor().setTimes(
            accessed: metadata.accessed.map(timespec.init), modified: metadata.modified.map(timespec.init))
    }

    /// Removes a staged file that nobody has heard of, or that is no longer needed. Blocks.
    func forget(_ staged: StagedFile) {
        // First the file: a record without a file is nothing, a file without a record would be kept for a person.
        staged.file.remove()
        do throws(LMDBError) { try journal.removeStaged(staged.number) } catch {
            if !isClosed { logger.error("the journal cannot be written: \(error)") }
        }
        state.withLock { $0.files[staged.number] = nil }
        wakeRoomWaiters()
    }
}

extension timespec {
    init(_ time: FileTime) { self.init(tv_sec: Int(time.seconds), tv_nsec: Int(time.nanoseconds)) }
}
