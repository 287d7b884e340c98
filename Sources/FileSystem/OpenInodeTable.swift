import Platform
import SystemPackage

/// The inodes that the kernel has open, by number. Sharded: opens of different files do not wait for each other.
final class OpenInodeTable: Sendable {
    typealias Waiter = @Sendable (Result<OpenInode, Errno>) -> Void

    private enum Entry {
        /// Asked by the first open; later ones wait for its answer.
        case opening([Waiter])
        case open(OpenInode, opens: Int)
    }

    enum Step {
        /// The caller must ask the coordinator, then call `finish`.
        case ask
        /// The waiter will be called.
        case wait
        /// Already open: the open is counted.
        case share(OpenInode)
    }

    private let shards: [Lock<[UInt64: Entry]>] = (0..<64).map { _ in Lock([:]) }

    private func shard(_ inode: UInt64) -> Lock<[UInt64: Entry]> {
        shards[Int(truncatingIfNeeded: (inode &* 0x9E37_79B9_7F4A_7C15) >> 58)]
    }

    /// Counts an open of `inode`, or notes that `waiter` is called once it is open.
    func begin(_ inode: UInt64, _ waiter: @escaping Waiter) -> Step {
        shard(inode).withLock { entries in
            switch entries[inode] {
            case nil:
                entries[inode] = .opening([waiter])
                return .ask
            case .opening(let waiters):
                entries[inode] = .opening(waiters + [waiter])
                return .wait
            case .open(let open, let opens):
                entries[inode] = .open(open, opens: opens + 1)
                return .share(open)
            }
        }
    }

    /// The answer to the open that was told to `ask`. Returns who waits for it, each with an open counted on success.
    func finish(_ inode: UInt64, _ result: Result<OpenInode, Errno>) -> [Waiter] {
        shard(inode).withLock { entries in
            guard case .opening(let waiters) = entries[inode] else { return [] }
            entries[inode] = if case .success(let open) = result { .open(open, opens: waiters.count) } else { nil }
            return waiters
        }
    }

    /// Uncounts an open. Returns whether it was the last.
    func end(_ open: OpenInode) -> Bool {
        shard(open.number).withLock { entries in
            guard case .open(let known, let opens) = entries[open.number], known === open else { return false }
            entries[open.number] = opens > 1 ? .open(open, opens: opens - 1) : nil
            return opens == 1
        }
    }

    func find(_ inode: UInt64) -> OpenInode? {
        shard(inode).withLock { entries in
            if case .open(let open, _) = entries[inode] { open } else { nil }
        }
    }

    /// Every open inode, in no order.
    func all() -> [OpenInode] {
        shards.flatMap { shard in
            shard.withLock { entries in
                entries.values.compactMap { if case .open(let open, _) = $0 { open } else { nil } }
            }
        }
    }
}
