import Coordination
import Platform

/// The advisory locks that this mount's callers hold: what a new coordinator must be told of, and what a close ends.
final class HeldLocks: Sendable {
    private struct Key: Hashable {
        let inode, owner: UInt64
        /// flock(2) locks are apart from those of fcntl(2), also those of the same number.
        let wholeFile: Bool
    }
    private struct Holder {
        var ranges = LockRanges()
        var pid: Int32 = 0
    }

    private let state = Lock<[Key: Holder]>([:])

    /// Whether `owner` holds a lock of the inode.
    func holds(_ inode: UInt64, _ owner: UInt64, wholeFile: Bool) -> Bool {
        state.withLock { !$0.isEmpty && $0[Key(inode: inode, owner: owner, wholeFile: wholeFile)] != nil }
    }

    /// The coordinator has set `lock`.
    func note(_ inode: UInt64, _ lock: WireFileLock) {
        let key = Key(inode: inode, owner: lock.owner, wholeFile: lock.wholeFile)
        state.withLock { state in
            var holder = state[key] ?? Holder()
            holder.pid = lock.pid
            let kind: LockRanges.Kind? =
                switch lock.kind {
                case .shared: .shared
                case .exclusive: .exclusive
                default: nil
                }
            holder.ranges.set(lock.start, lock.end, kind)
            state[key] = holder.ranges.isEmpty ? nil : holder
        }
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
