import BlockCaching
import Coordination
import Glibc
import LMDB
import Platform
import UnderStores

/// What a predecessor that was killed has left.
extension StagingService {
    /// Reads the journal and compares it with the files that are there. Blocks.
    func takeStock() throws(LMDBError) {
        var found: [UInt64: StagingFile] = [:]
        for file in cache.stagingFiles() { found[file.number] = file }
        if let last = found.keys.max() { try journal.reserveNumbers(to: last) }
        for (number, record) in try journal.stagedRecords() {
            guard let file = found.removeValue(forKey: number) else {
                try missing(number, record)
                continue
            }
            guard record.state != .void else {
                file.remove()
                try journal.removeStaged(number)
                continue
            }
            file.account()
            file.closeDescriptor()
            state.withLock { $0.dormant[record.store, default: []].append((number, record, file)) }
        }
        for file in found.values { try keepUnknown(file) }
    }

    /// A record without a file: removed just before the end, or in a tier that is not there.
    private func missing(_ number: UInt64, _ record: StagedRecord) throws(LMDBError) {
        guard cache.hasTier(record.tier) else {
            return journal.report(
                "changes of \(record.path) are in a cache directory that is not configured; configure it to upload them"
            )
        }
        if let upload = record.upload {
            try journal.put(
                AbandonedUpload(number: number, store: record.store, path: record.path, upload: upload))
        }
        try journal.removeStaged(number)
    }

    /// A file without a record is kept for a person, by what it says of itself.
    private func keepUnknown(_ file: StagingFile) throws(LMDBError) {
        guard let size = try? file.descriptor().status().size, size > 0 || journal.isBegunAnew else {
            return file.remove()  // made, and not yet written to
        }
        file.account()
        file.closeDescriptor()
        let description = file.description().flatMap(StagedDescription.init(text:))
        let record = StagedRecord(
            store: description?.store ?? "", path: description?.path ?? "", base: .none, metadata: WrittenMetadata(),
            hasNewMetadata: false, writeType: description?.writeType ?? .cacheThrough, tier: file.tierIdentity,
            inode: 0, state: .conflict(reason: "recovered: the journal did not know it", time: .now()),
            created: .now())
        try journal.put(record, number: file.number)
        journal.report("a written file that the journal did not know is listed by larder conflicts")
        state.withLock { $0.dormant[record.store, default: []].append((file.number, record, file)) }
    }

    /// A store is there (again): takes up what a predecessor left for it, continues its uploads and aborts those that
    /// nothing needs. May be called more than once.
    ///
    /// - Returns: the files that are the content of their paths. Those that were being written wait for the mount that
    ///   did (`claim`), and are committed as if closed when none comes; the rest is uploaded at once.
    package func recover(for store: any ObjectWriting) async -> [StagedFile] {
        note(store)
        let identity = store.identity.text
        let dormant = state.withLock { state in
            let found = state.dormant[identity] ?? []
            // Conflicts stay where they are listed.
            state.dormant[identity] = found.filter { if case .conflict = $0.record.state { true } else { false } }
            return found.filter { if case .conflict = $0.record.state { false } else { true } }
        }
        let revived = await blocking { [self] () -> [StagedFile] in
            dormant.sorted { $0.number < $1.number }.compactMap { revive($0.number, $0.record, $0.file, in: store) }
        }
        await dropUploads(of: store)
        for file in revived where file.state.withLock({ $0.isLeaving }) { await settleLeaving(file) }
        for file in revived where file.state.withLock({ $0.acknowledged != nil }) && file.writeType != .mustCache {
            enqueue(file)
        }
        for file in revived { awaitWriters(of: file) }
        return revived.filter(\.isCurrent)
    }

    /// Files of the predecessor whose paths a rename has changed belong under the new ones. To be called before `recover`.
    func relocate(in store: any ObjectWriting, _ newPath: (ByteString) -> ByteString?) async {
        let identity = store.identity.text
        for (number, former, _) in state.withLock({ $0.dormant[identity] ?? [] }) {
            if case .conflict = former.state { continue }
            guard let path = newPath(former.path) else { continue }
            var record = former
            record.path = path
            if record.base != .absent {
                record.base = (try? await store.lookup(path))?.version.map { .version($0) } ?? .none
            }
            do throws(LMDBError) { try journal.put(record, number: number) } catch {
                logger.error("the journal cannot note a new path", metadata: ["path": "\(path)", "reason": "\(error)"])
            }
            let relocated = record
            state.withLock { state in
                guard let index = state.dormant[identity]?.firstIndex(where: { $0.number == number }) else { return }
                state.dormant[identity]?[index].record = relocated
            }
        }
    }

    /// Makes the file of a record again. Blocks.
    private func revive(
        _ number: UInt64, _ record: StagedRecord, _ file: StagingFile, in store: any ObjectWriting
    ) -> StagedFile? {
        let target = StagedTarget(
            store: store, path: record.path, base: record.base, metadata: record.metadata,
            writeType: record.writeType, inode: record.inode)
        let staged = StagedFile(number: number, file: file, target: target, created: record.created)
        let now = try? FileSnapshot(staged.status())
        file.closeDescriptor()
        staged.state.withLock { state in
            state.snapshot = record.snapshot
            state.content = record.content
            state.hasNewMetadata = record.hasNewMetadata
            state.isLeaving = record.isLeaving
            state.attempts = record.attempts
            state.isReleased = true
            if case .acknowledged(let isDurable) = record.state {
                // With other times it has been written since: what it holds now is as good as acknowledged.
                state.acknowledged = now
                state.isDurable = isDurable
            }
            state.lastError = record.lastError.map { StoreError(.unavailable, $0) }
            if let upload = record.upload {
                let parts = (try? journal.stagedParts(of: number)) ?? [:]
                state.upload = UploadSession(
                    upload, path: record.path, metadata: record.uploadMetadata ?? WrittenMetadata(), parts: parts)
            }
        }
        state.withLock { $0.files[number] = staged }
        if let reason = doubt(record), staged.isDirty { conflict(staged, reason) }
        return staged
    }

    /// A predecessor was killed while it removed the file's object, and nobody was told that it is gone: the file stays,
    /// and where the object is gone, nothing has to be there.
    private func settleLeaving(_ file: StagedFile) async {
        let target = file.target
        do throws(StoreError) {
            let isGone = try await target.store.lookup(target.path) == nil
            file.state.withLock { state in
                state.isLeaving = false
                guard isGone else { return }
                state.target.base = .absent
                (state.known, state.content, state.snapshot) = (nil, nil, nil)
            }
            await blocking { [self] in saveOrReport(file) }
        } catch {
            // The next start looks again; until then a commit that misses the object is a lost race.
            logger.debug("\(target.path) cannot be looked up", metadata: ["reason": "\(error)"])
        }
    }

    /// Why a file is for a person to judge: the machine went down before its bytes were on the disk.
    private func doubt(_ record: StagedRecord) -> String? {
        guard journal.isAfterReboot, record.writeType != .mustCache else { return nil }
        switch record.state {
        case .acknowledged(isDurable: true): return nil
        case .acknowledged: return "recovered after a restart of the machine without fsync: its end may be missing"
        default: return "recovered after a restart of the machine while it was being written"
        }
    }

    private func awaitWriters(of file: StagedFile) {
        let isAwaited = file.state.withLock { state in
            guard state.phase == .current, state.acknowledged == nil, state.target.writeType != .mustCache else {
                return false
            }
            state.isAwaited = true
            return true
        }
        guard isAwaited else { return }
        clock.schedule(after: configuration.grace) { [weak self] in
            guard let self else { return }
            Task(executorPreference: pool) { [self] in
                // It has been released since it was found; a mount that claims it now takes that back.
                if file.state.withLock({ $0.isAwaited }) { await end(file, mapped: true) }
            }
        }
    }

    /// A mount that was attached to a predecessor still has the descriptor of this staged file, and goes on writing.
    /// nil when the file has been finished meanwhile; the mount opens its path again then.
    package func claim(_ number: UInt64) -> StagedFile? {
        guard let file = file(number), reopen(file) else { return nil }
        return file
    }

    /// Aborts the uploads that a predecessor noted as not needed.
    private func dropUploads(of store: any ObjectWriting) async {
        let identity = store.identity.text
        let uploads = await blocking { [journal] in (try? journal.abandonedUploads()) ?? [] }
        var needed = Set(state.withLock { $0.dormant.values.flatMap { $0 } }.compactMap(\.record.upload))
        for file in state.withLock({ Array($0.files.values) }) {
            if let upload = file.state.withLock({ $0.upload }) { needed.insert(upload.upload) }
        }
        for upload in uploads where upload.store == identity {
            if upload.upload == .unknown {
                await dropUnknown(upload, in: store, but: needed)
            } else {
                abort(upload, in: store)
            }
        }
    }

    /// An upload that a predecessor was about to begin when it was killed.
    private func dropUnknown(
        _ intent: AbandonedUpload, in store: any ObjectWriting, but needed: Set<UploadID>
    ) async {
        do throws(StoreError) {
            for pending in try await store.uploads(of: intent.path) where !needed.contains(pending.upload) {
                try await store.abortUpload(pending.upload, of: intent.path)
            }
        } catch {
            // A store that does not list uploads keeps it; the others are asked again at the next start.
            guard error.kind == .unsupported || error.kind == .invalid else { return }
        }
        await blocking { [journal] in try? journal.removeUpload(intent.number) }
    }
}
