import Coordination
import Platform

/// The advisory locks that this mount's callers hold: what a new coordinator must be told of, and what a close ends. They are in
/// the session's memory, so that a successor of this process knows them.
final class HeldLocks: Sendable {
    private struct Key: Hashable {
        let inode, owner: UInt64
        /// flock(2) locks are apart from those of fcntl(2), also those of the same number.
        let wholeFile: Bool
    }
    private struct Holder {
        var ranges = LockRanges()
        var pid: Int32 = 0
        /// The open file through which the first was asked for; 0: none that is known.
        var handle: UInt64 = 0
        /// Its records, one for each range.
        var slots: [Int] = []
    }

    private let memory: SessionMemory
    private let state: Lock<[Key: Holder]>

    init(_ memory: SessionMemory) {
        self.memory = memory
        var holders: [Key: Holder] = [:]
        for slot in memory.locks.all() {
            let record = memory.locks.body(slot).load(as: LockRecord.self)
            let key = Key(inode: record.inode, owner: record.owner, wholeFile: record.kind & 4 != 0)
            holders[key, default: Holder(pid: record.pid, handle: record.handle)].ranges.set(
                record.start, record.end, record.kind & 3 == 2 ? .exclusive : .shared)
            holders[key]?.slots.append(slot)
        }
        state = Lock(holders)
    }

    /// Whether `owner` holds a lock of the inode.
    func holds(_ inode: UInt64, _ owner: UInt64, wholeFile: Bool) -> Bool {
        state.withLock { !$0.isEmpty && $0[Key(inode: inode, owner: owner, wholeFile: wholeFile)] != nil }
    }

    /// The coordinator has set `lock`, which was asked for through the open file that has `handle`.
    func note(_ inode: UInt64, _ lock: WireFileLock, through handle: UInt64) {
        let key = Key(inode: inode, owner: lock.owner, wholeFile: lock.wholeFile)
        state.withLock { state in
            var holder = state[key] ?? Holder()
            holder.pid = lock.pid
            if holder.handle == 0 { holder.handle = handle }
            let kind: LockRanges.Kind? =
                switch lock.kind {
                case .shared: .shared
                case .exclusive: .exclusive
                default: nil
                }
            holder.ranges.set(lock.start, lock.end, kind)
            record(&holder, key)
            state[key] = holder.ranges.isEmpty ? nil : holder
        }
    }

    /// Writes anew what the memory has of a holder. New records come before the old ones go: a successor that sees both sees
    /// the same locks.
    private func record(_ holder: inout Holder, _ key: Key) {
        let old = holder.slots
        holder.slots = holder.ranges.held.compactMap { held in
            guard let slot = memory.locks.take() else { return nil }
            let kind: UInt32 = (held.kind == .exclusive ? 2 : 1) | (key.wholeFile ? 4 : 0)
            memory.locks.body(slot).storeBytes(
                of: LockRecord(
                    inode: key.inode, owner: key.owner, start: held.start, end: held.end, handle: holder.handle,
                    kind: kind, pid: holder.pid), as: LockRecord.self)
            memory.locks.publish(slot)
            return slot
        }
        for slot in old { memory.locks.release(slot) }
    }

    /// Who holds locks, and through which open file.
    func owners() -> [(inode: UInt64, owner: UInt64, wholeFile: Bool, handle: UInt64)] {
        state.withLock { state in state.map { ($0.inode, $0.owner, $0.wholeFile, $1.handle) } }
    }

    /// All locks, as requests that set them again.
    func all() -> [WireSetLock] {
        state.withLock { state in
            state.flatMap { key, holder in
                holder.ranges.held.map { held in
                    var request = WireSetLock()
                    request.inode = key.inode
                    request.lock.kind = held.kind == .shared ? .shared : .exclusive
                    request.lock.start = held.start
                    request.lock.end = held.end
                    request.lock.owner = key.owner
                    request.lock.pid = holder.pid
                    request.lock.wholeFile = key.wholeFile
                    return request
                }
            }
        }
    }
}
