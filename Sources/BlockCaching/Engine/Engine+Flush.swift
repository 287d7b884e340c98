import BlockMaps
import Platform
import Synchronization
import SystemPackage

extension Engine {
    /// Saves maps and records of what has changed, in one durable commit, then lets idle entries go. Flush thread.
    func flush() {
        let (dirty, idle) = flushQueue.take()
        let saved = dirty.compactMap { $0.save() }
        var usage = recordedUsage.withLock { $0 }
        var changes: [CacheIndex.Change] = []
        var touched: Set<UInt64> = []
        for save in saved {
            if let old = save.old {
                usage[old.tier]?.subtract(old.bytes)
                touched.insert(old.tier)
            }
            if let record = save.record {
                usage[record.tier, default: TierUsage()].add(record.occupiedBytes)
                touched.insert(record.tier)
                changes.append(.put(save.entry.digest, record))
            } else if save.old != nil {
                changes.append(.remove(save.entry.digest))
            }
        }
        for tier in touched { changes.append(.usage(tier: tier, usage[tier])) }
        do {
            try index?.commit(changes)
            let final = usage
            recordedUsage.withLock { $0 = final }
            isIndexFailing.store(false, ordering: .relaxed)
            for save in saved { save.entry.noteCommitted(save) }
        } catch {
            // The records stay dirty and are tried again with the next changes.
            if !isIndexFailing.exchange(true, ordering: .relaxed) {
                logger.error(
                    "cannot write the cache index; what is cached now may be lost by a restart",
                    metadata: ["error": "\(error)"])
            }
            for save in saved { save.entry.markDirty() }
        }
        for entry in idle {
            if entry.state.withLock({ $0.file != nil && $0.occupied == 0 && !$0.isInUse && entry.id.size > 0 }) {
                // Under `io` no one who comes now gets the file before it is gone.
                entry.io.withLock { _ in if isUnused(entry) { entry.removeEmptyFile() } }
            }
            if !retire(entry) { flushQueue.addIdle(entry) }
        }
    }
}

extension CacheEntry {
    /// What one flush writes of an entry.
    struct Save {
        let entry: CacheEntry
        /// nil: the object is no longer cached.
        let record: ObjectRecord?
        let old: (tier: UInt64, bytes: UInt64)?
        /// Whether the record holds the checksums, so that the map file may go.
        let replacesMap: BlockFile?
    }

    private struct Snapshot {
        let file: BlockFile?
        let unsaved: Range<Int>?
        let record: ObjectRecord?
        let old: (tier: UInt64, bytes: UInt64)?
    }

    /// Saves the map and makes the record; nil when nothing has changed. Flush thread.
    func save() -> Save? {
        if state.withLock({ $0.isMoving }) {
            engine.flushQueue.add(self)  // not to wait for a long copy
            return nil
        }
        return io.withLock { _ -> Save? in
            let snapshot = state.withLock { state -> Snapshot? in
                guard state.isDirty else { return nil }
                state.isDirty = false
                defer { state.unsaved = nil }
                return Snapshot(
                    file: state.file, unsaved: state.unsaved, record: state.file.map { record(of: $0, state) },
                    old: state.recorded)
            }
            guard let snapshot else { return nil }
            let isSmall = snapshot.record?.checksums.isEmpty == false
            if let file = snapshot.file, let unsaved = snapshot.unsaved, !isSmall {
                do throws(Errno) { try file.saveMap(unsaved) } catch {
                    engine.noteFailure(of: file.tier, error, doing: "saving a block map")
                }
            }
            return Save(
                entry: self, record: snapshot.record, old: snapshot.old, replacesMap: isSmall ? snapshot.file : nil)
        }
    }

    private func record(of file: BlockFile, _ state: State) -> ObjectRecord {
        let isComplete = isComplete(state)
        let isSmall = isComplete && id.size <= BlockFile.smallSize
        return ObjectRecord(
            id: id, tier: file.tier.identity, blockSize: file.geometry.blockSize, occupiedBytes: state.occupied,
            // Suspects keep the whole file suspect over the next stop.
            trust: state.suspectCount > 0 ? 0 : engine.trust, frequency: state.frequency, isComplete: isComplete,
            checksums: isSmall ? (0..<file.geometry.blockCount).map { file.map.checksum(of: $0) } : [],
            lastUse: UInt64(max(0, FileTime.now().seconds)), run: file.run)
    }

    func noteCommitted(_ save: Save) {
        state.withLock { $0.recorded = save.record.map { ($0.tier, $0.occupiedBytes) } }
        guard let file = save.replacesMap else { return }
        io.withLock { _ in
            let stillStands = state.withLock { $0.file === file && isComplete($0) && !$0.isDirty }
            if stillStands { file.removeMapFile() }
        }
    }
}
