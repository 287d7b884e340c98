import Coordination
import Platform
import Synchronization

/// Where a grant is noted in the session's memory.
struct NotedGrant {
    let memory: SessionMemory
    let slot: Int
    let serial: UInt64
    let session: @Sendable (_ generation: UInt64) -> UInt64
}

extension OpenInode {
    /// Notes the grant, so that a successor of this process can go on with it. Returns its record; nil when there is no room.
    func note(in memory: SessionMemory, _ link: CoordinatorLink) -> Int? {
        record.withLock { noted in
            if let noted { return noted.slot }
            guard let slot = memory.grants.take() else { return nil }
            let fresh = NotedGrant(memory: memory, slot: slot, serial: memory.nextSerial()) { [weak link] generation in
                link?.session(of: generation) ?? 0
            }
            store(fresh)
            memory.grants.publish(slot)
            noted = fresh
            return slot
        }
    }

    /// The record that a predecessor of this process made.
    func adopt(_ slot: Int, _ record: GrantRecord, in memory: SessionMemory, _ link: CoordinatorLink) {
        self.record.withLock {
            $0 = NotedGrant(memory: memory, slot: slot, serial: record.serial) { [weak link] generation in
                link?.session(of: generation) ?? 0
            }
        }
    }

    /// Something that the record has is another now.
    func noteChange() { record.withLock { noted in if let noted { store(noted) } } }

    /// Nobody has the grant any more.
    func forgetRecord() {
        let noted = record.withLock { noted in
            defer { noted = nil }
            return noted
        }
        noted?.memory.grants.release(noted?.slot ?? 0)
    }

    private func store(_ noted: NotedGrant) {
        let path = path
        var flags: GrantRecord.Flags = []
        if access == .writing { flags.insert(.writing) }
        if isRetired { flags.insert(.retired) }
        if isOrphaned.load(ordering: .acquiring) { flags.insert(.orphaned) }
        if path.isDirect { flags.insert(.direct) }
        if path.keepCache { flags.insert(.keepsCache) }
        if path.isFirstPass { flags.insert(.firstPass) }
        var record = GrantRecord(
            inode: number, lease: path.lease,
            session: path.isRestored ? path.session : noted.session(path.generation), staged: path.stagedNumber,
            size: path.size, serial: noted.serial, backingID: path.backingID, kind: path.kind, flags: flags)
        record.failure = writing?.error?.rawValue ?? 0
        let body = noted.memory.grants.body(noted.slot)
        record.store(path.attributes, behind: body)
        body.storeBytes(of: record, as: GrantRecord.self)
    }
}
