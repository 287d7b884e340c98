import Platform
import SystemPackage

/// What the kernel has open, by inode. Sharded: opens of different files do not wait for each other.
///
/// An inode has usually one grant, which all its opens share. It has more while somebody writes what others still read
/// in an older version: those who opened it before keep their grant, and it is *retired*: later opens ask anew. A backing
/// file is kept until no open names it any more, also when those that read it are closed.
final class OpenInodeTable: Sendable {
    typealias Waiter = @Sendable (Result<OpenFile, Errno>) -> Void

    /// An open for which the caller must ask the coordinator, then call `finish`.
    struct Question: Sendable {
        let inode: UInt64
        let access: OpenInode.Access
        /// A backing id would suit the kernel: it has no cached opens of the inode.
        let mayPassThrough: Bool
        /// Nobody waits for it but who asked.
        let own: Waiter?
        fileprivate let epoch: UInt64
    }
    enum Step {
        case ask(Question)
        /// The waiter will be called.
        case wait
        /// Counted.
        case share(OpenFile)
    }
    enum Finish {
        /// The inode's opens, counted, for who waits for them.
        case opened([(Waiter, OpenFile)])
        case failed([Waiter])
        /// The kernel has cached opens, or ones with another backing id: ask again, for something else.
        case unsuitable(Question)
    }

    fileprivate enum Slot {
        case none
        case opening([Waiter])
        case open(OpenInode)
    }
    fileprivate struct Entry {
        /// What the next open of each kind shares.
        var reading = Slot.none
        var writing = Slot.none
        var grants: [(inode: OpenInode, opens: Int)] = []
        var questions = 0
        /// Grows when what was granted for reading before is no longer what a new reader must see.
        var epoch: UInt64 = 0
        /// What the kernel's opens of this inode have in common, but for those with direct I/O, which bind to nothing.
        var kernelMode = KernelMode.direct
        var kernelOpens = 0

        subscript(access: OpenInode.Access) -> Slot {
            get { access == .reading ? reading : writing }
            set { if access == .reading { reading = newValue } else { writing = newValue } }
        }
        var isUnused: Bool { grants.isEmpty && questions == 0 }
    }

    private let shards: [Lock<[UInt64: Entry]>] = (0..<64).map { _ in Lock([:]) }

    private func shard(_ inode: UInt64) -> Lock<[UInt64: Entry]> {
        shards[Int(truncatingIfNeeded: (inode &* 0x9E37_79B9_7F4A_7C15) >> 58)]
    }

    /// Counts an open of `inode`, or notes that `waiter` is called once it is open.
    ///
    /// - Parameter alone: the coordinator must be asked for this very open (O_TRUNC).
    func begin(_ inode: UInt64, _ access: OpenInode.Access, alone: Bool, _ waiter: @escaping Waiter) -> Step {
        shard(inode).withLock { entries in
            var entry = entries[inode] ?? Entry()
            defer { entries[inode] = entry }
            switch entry[access] {
            case .open(let open) where !alone: return .share(entry.open(open, shared: true))
            case .opening(let waiters) where !alone:
                entry[access] = .opening(waiters + [waiter])
                return .wait
            default:
                if !alone { entry[access] = .opening([waiter]) }
                entry.questions += 1
                return .ask(entry.question(inode, access, own: alone ? waiter : nil))
            }
        }
    }

    /// Counts an open that was granted together with its inode: of a file that was created.
    func add(_ path: DataPath, _ inode: UInt64, _ access: OpenInode.Access) -> Finish {
        let question = shard(inode).withLock { entries in
            var entry = entries[inode] ?? Entry()
            entry.questions += 1
            entries[inode] = entry
            return entry.question(inode, access, own: { _ in })
        }
        return finish(question, .success(path))
    }

    /// The answer to a question. The caller calls the waiters.
    func finish(_ question: Question, _ result: Result<DataPath, Errno>) -> Finish {
        shard(question.inode).withLock { entries in
            var entry = entries[question.inode] ?? Entry()
            defer { entries[question.inode] = entry.isUnused ? nil : entry }
            guard case .success(let path) = result, !path.isPassthrough || entry.suits(path) else {
                if case .success = result, question.mayPassThrough {
                    return .unsuitable(
                        Question(
                            inode: question.inode, access: question.access, mayPassThrough: false, own: question.own,
                            epoch: question.epoch))
                }
                entry.questions -= 1
                return .failed(entry.takeWaiters(question))
            }
            entry.questions -= 1
            let open = OpenInode(question.inode, path, question.access)
            let waiters = entry.takeWaiters(question)
            if question.access == .writing { entry.retireReading(unlessLike: path) }
            let isCurrent = question.access == .writing || entry.epoch == question.epoch
            if isCurrent { entry[question.access] = .open(open) } else { open.retire() }
            entry.grants.append((open, 0))
            let isFirst = entry.grants.count == 1
            return .opened(waiters.enumerated().map { ($1, entry.open(open, shared: $0 > 0 || !isFirst)) })
        }
    }

    /// Uncounts an open. Returns the grants that nobody needs any more: usually none, or its own.
    func end(_ file: OpenFile) -> [OpenInode] {
        let open = file.inode
        return shard(open.number).withLock { entries in
            guard var entry = entries[open.number],
                let index = entry.grants.firstIndex(where: { $0.inode === open })
            else { return [] }
            defer { entries[open.number] = entry.isUnused ? nil : entry }
            if file.kernelMode != .direct { entry.kernelOpens -= 1 }
            if entry.kernelOpens == 0 { entry.kernelMode = .direct }
            entry.grants[index].opens -= 1
            return entry.takeUnneeded()
        }
    }

    /// Counts the opens of a grant that a predecessor of this process had, in the order in which they were granted.
    func restore(_ open: OpenInode, opens modes: [KernelMode]) {
        shard(open.number).withLock { entries in
            var entry = entries[open.number] ?? Entry()
            entry.grants.append((open, modes.count))
            for mode in modes {
                switch mode {
                case .direct: continue
                case .directBeside(let id): entry.kernelMode = .passthrough(backingID: id)
                case .cached, .passthrough: entry.kernelMode = mode
                }
                entry.kernelOpens += 1
            }
            if !open.isRetired { entry[open.access] = .open(open) }
            entries[open.number] = entry
        }
    }

    /// After `restore`: the grants that nobody needs.
    func takeUnneeded() -> [OpenInode] {
        shards.flatMap { shard in
            shard.withLock { entries in
                Array(entries.keys).flatMap { inode -> [OpenInode] in
                    guard var entry = entries[inode] else { return [] }
                    defer { entries[inode] = entry.isUnused ? nil : entry }
                    return entry.takeUnneeded()
                }
            }
        }
    }

    /// The next reader of `inode` must ask: what it holds has changed.
    func retire(_ inode: UInt64) {
        shard(inode).withLock { entries in entries[inode]?.retireReading(unlessLike: nil) }
    }

    /// The grant that shows the inode as it is now: the writers' if there is one.
    func find(_ inode: UInt64) -> OpenInode? {
        shard(inode).withLock { entries in
            guard let entry = entries[inode] else { return nil }
            if case .open(let open) = entry.writing { return open }
            if case .open(let open) = entry.reading { return open }
            return entry.grants.last?.inode
        }
    }

    /// Whether opens of `inode` read different contents.
    func isMixed(_ inode: UInt64) -> Bool {
        shard(inode).withLock { entries in
            guard let grants = entries[inode]?.grants, let first = grants.first else { return false }
            return grants.contains { $0.inode.content != first.inode.content }
        }
    }

    /// Every grant, in no order.
    func all() -> [OpenInode] {
        shards.flatMap { shard in shard.withLock { entries in entries.values.flatMap { $0.grants.map(\.inode) } } }
    }
}

extension OpenInodeTable.Entry {
    fileprivate func question(
        _ inode: UInt64, _ access: OpenInode.Access, own: OpenInodeTable.Waiter?
    ) -> OpenInodeTable.Question {
        let mayPassThrough = if case .cached = kernelMode { false } else { true }
        return .init(inode: inode, access: access, mayPassThrough: mayPassThrough, own: own, epoch: epoch)
    }

    /// Whether the kernel lets an open of `path` be as `path` would have it.
    fileprivate func suits(_ path: DataPath) -> Bool { kernelOpens == 0 || kernelMode == KernelMode(path) }

    fileprivate mutating func open(_ inode: OpenInode, shared: Bool) -> OpenFile {
        let wanted = inode.kernelMode
        let mode: KernelMode
        if kernelOpens == 0 || kernelMode == wanted {
            mode = wanted
            kernelMode = wanted
        } else if case .passthrough(let backingID) = kernelMode {
            mode = .directBeside(backingID: backingID)
        } else {
            mode = .direct
        }
        if mode != .direct { kernelOpens += 1 }
        if let index = grants.firstIndex(where: { $0.inode === inode }) { grants[index].opens += 1 }
        return OpenFile(inode, shared: shared, mode)
    }

    fileprivate mutating func takeWaiters(_ question: OpenInodeTable.Question) -> [OpenInodeTable.Waiter] {
        if let own = question.own { return [own] }
        guard case .opening(let waiters) = self[question.access] else { return [] }
        self[question.access] = .none
        return waiters
    }

    /// Grants without opens, but for one whose backing file others name.
    fileprivate mutating func takeUnneeded() -> [OpenInode] {
        let isNeeded = { [kernelMode] (grant: (inode: OpenInode, opens: Int)) in
            grant.opens > 0 || (grant.inode.isPassthrough && grant.inode.kernelMode == kernelMode)
        }
        guard let first = grants.firstIndex(where: { !isNeeded($0) }) else { return [] }
        let unneeded = grants[first...].filter { !isNeeded($0) }.map(\.inode)
        grants.removeAll { !isNeeded($0) }
        for access in [OpenInode.Access.reading, .writing] {
            if case .open(let current) = self[access], unneeded.contains(where: { $0 === current }) {
                self[access] = .none
            }
        }
        return unneeded
    }

    fileprivate mutating func retireReading(unlessLike path: DataPath?) {
        if case .open(let open) = reading {
            if let path, open.content == path.content { return }
            open.retire()
            reading = .none
        }
        epoch += 1
    }
}
