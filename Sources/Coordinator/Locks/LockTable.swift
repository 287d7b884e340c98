import Coordination
import Platform
import SystemPackage

/// The advisory locks of all mounts of the node, fcntl(2) and flock(2), and who waits for them.
///
/// They end with the session that holds them. Any thread.
final class LockTable: Sendable {
    /// The locks of fcntl(2) and those of flock(2) of one inode know nothing of each other.
    private struct Key: Hashable {
        let inode: UInt64
        let isWholeFile: Bool
    }

    private struct Waiting {
        let number: UInt64
        let key: Key
        let wanted: HeldLocks.Held
        /// Of the client, to be cancelled by.
        let operation: UInt64
        let continuation: CheckedContinuation<Errno?, Never>
    }

    private struct State {
        var held: [Key: HeldLocks] = [:]
        /// In the order of asking.
        var waiting: [Waiting] = []
        var nextNumber: UInt64 = 1
        /// Operations that were cancelled before they came to wait, by session.
        var cancelled: [UInt64: Set<UInt64>] = [:]
    }

    private let state = Lock(State())

    /// The first lock that conflicts; nil when there is none.
    func conflict(_ inode: UInt64, _ lock: WireFileLock, session: UInt64) throws(CoordinationError) -> WireFileLock? {
        let wanted = try Self.held(lock, session)
        let found = state.withLock { state in
            state.held[Key(inode: inode, isWholeFile: lock.wholeFile)]?.conflict(with: wanted)
        }
        return found.map { held in
            var answer = WireFileLock()
            answer.kind = held.isExclusive ? .exclusive : .shared
            answer.start = held.range.lowerBound
            answer.end = held.range.upperBound
            // A pid means nothing to another mount's processes; 0 is what the kernel shows for those.
            answer.pid = held.owner.session == session ? held.pid : 0
            answer.wholeFile = lock.wholeFile
            return answer
        }
    }

    /// Takes, changes or gives back a lock.
    /// - Parameter operation: the request's number, for `cancel`.
    /// - Throws: EAGAIN, EDEADLK, EINTR (cancelled, or the session has ended), EINVAL.
    func set(
        _ inode: UInt64, _ lock: WireFileLock, waits: Bool, session: UInt64, operation: UInt64
    ) async throws(CoordinationError) {
        let key = Key(inode: inode, isWholeFile: lock.wholeFile)
        let wanted = try Self.held(lock, session)
        if lock.kind == .unlocked {
            return resume(
                state.withLock { state in
                    state.held[key]?.release(wanted.range, of: wanted.owner)
                    return Self.grant(&state, at: key)
                })
        }
        let failure: Errno? = await withCheckedContinuation { continuation in
            let outcome: (answer: Errno?, granted: [Waiting])? = state.withLock { state in
                if state.held[key]?.conflict(with: wanted) == nil {
                    state.held[key, default: HeldLocks()].take(wanted)
                    // A lock that was exclusive may be shared now.
                    return (nil, Self.grant(&state, at: key))
                }
                let grace = waits ? nil : Self.grace(wanted, key, state)
                guard waits || grace != nil else { return (.wouldBlock, []) }
                if waits, state.cancelled[session]?.remove(operation) != nil { return (.interrupted, []) }
                if let grace { giveUp(state.nextNumber, after: grace) }
                if !key.isWholeFile, Self.wouldDeadlock(wanted, key, state) { return (.deadlock, []) }
                state.waiting.append(
                    Waiting(
                        number: state.nextNumber, key: key, wanted: wanted, operation: operation,
                        continuation: continuation))
                state.nextNumber += 1
                return nil
            }
            guard let outcome else { return }
            continuation.resume(returning: outcome.answer)
            resume(outcome.granted)
        }
        guard let failure else { return }
        throw CoordinationError(
            failure, failure == .deadlock ? "the locks would wait in a circle" : "the file is locked")
    }

    /// A descriptor of an open file that holds a lock of flock(2) has been closed, perhaps its last.
    func noteClosing(_ inode: UInt64, _ lock: WireFileLock, session: UInt64) {
        let owner = HeldLocks.Owner(session: session, number: lock.owner)
        let key = Key(inode: inode, isWholeFile: lock.wholeFile)
        state.withLock { $0.held[key]?.noteClosed(owner, at: MonotonicClock.now()) }
    }

    /// FUSE ends a lock of flock(2) some time after the last close(2) of the open file has returned, and nobody knows which
    /// close is the last. Who asks without waiting is therefore made to wait, for so long, when each lock that is in the way
    /// belongs to an open file of which a descriptor was closed just before.
    private static let graceOfClosing: UInt64 = 1_000_000_000

    /// In nanoseconds; nil when somebody holds what is wanted and has not closed anything.
    private static func grace(_ wanted: HeldLocks.Held, _ key: Key, _ state: State) -> UInt64? {
        let conflicts = state.held[key]?.conflicts(with: wanted) ?? []
        guard key.isWholeFile, let first = conflicts.map(\.closedAt).min(), first > 0 else { return nil }
        let passed = MonotonicClock.now() &- first
        return passed < graceOfClosing ? graceOfClosing - passed : nil
    }

    /// Answers a wait with EAGAIN when it still lasts after so many nanoseconds.
    private func giveUp(_ number: UInt64, after time: UInt64) {
        Task { [self] in
            try? await Task.sleep(nanoseconds: time)
            let waiting = state.withLock { state -> Waiting? in
                state.waiting.firstIndex { $0.number == number }.map { state.waiting.remove(at: $0) }
            }
            waiting?.continuation.resume(returning: .wouldBlock)
        }
    }

    /// Ends a wait, or one that is about to begin: it is answered EINTR.
    func cancel(operation: UInt64, session: UInt64) {
        let waiting = state.withLock { state -> Waiting? in
            let place = state.waiting.firstIndex { $0.operation == operation && $0.wanted.owner.session == session }
            guard let place else {
                // The request may be behind; one that was answered already leaves its number here until the session ends.
                state.cancelled[session, default: []].insert(operation)
                if let count = state.cancelled[session]?.count, count > 1024 { state.cancelled[session] = [] }
                return nil
            }
            return state.waiting.remove(at: place)
        }
        waiting?.continuation.resume(returning: .interrupted)
    }

    /// The process of a session has died and waits no more; a successor may, and goes on with the locks that are held.
    func endWaits(session: UInt64) {
        let ended = state.withLock { state -> [Waiting] in
            let ended = state.waiting.filter { $0.wanted.owner.session == session }
            state.waiting.removeAll { $0.wanted.owner.session == session }
            state.cancelled[session] = nil
            return ended
        }
        for waiting in ended { waiting.continuation.resume(returning: .interrupted) }
    }

    /// The session has ended, and its locks with it.
    func release(session: UInt64) {
        let (ended, granted) = state.withLock { state -> ([Waiting], [Waiting]) in
            let ended = state.waiting.filter { $0.wanted.owner.session == session }
            state.waiting.removeAll { $0.wanted.owner.session == session }
            state.cancelled[session] = nil
            var granted: [Waiting] = []
            for key in Array(state.held.keys) {
                state.held[key]?.releaseAll(ofSession: session)
                granted += Self.grant(&state, at: key)
            }
            return (ended, granted)
        }
        for waiting in ended { waiting.continuation.resume(returning: .interrupted) }
        resume(granted)
    }

    private func resume(_ granted: [Waiting]) { for waiting in granted { waiting.continuation.resume(returning: nil) } }

    /// Gives what has become free to those who wait, first come, first served.
    private static func grant(_ state: inout State, at key: Key) -> [Waiting] {
        var granted: [Waiting] = []
        var left: [Waiting] = []
        for waiting in state.waiting {
            if waiting.key == key, state.held[key]?.conflict(with: waiting.wanted) == nil {
                state.held[key, default: HeldLocks()].take(waiting.wanted)
                granted.append(waiting)
            } else {
                left.append(waiting)
            }
        }
        state.waiting = left
        if state.held[key]?.isEmpty == true { state.held[key] = nil }
        return granted
    }

    /// Whether who holds what is wanted waits, over any number of others, for who wants it (fcntl(2), EDEADLK).
    private static func wouldDeadlock(_ wanted: HeldLocks.Held, _ key: Key, _ state: State) -> Bool {
        var pending = (state.held[key]?.conflicts(with: wanted) ?? []).map(\.owner)
        var seen: Set<HeldLocks.Owner> = []
        while let owner = pending.popLast() {
            if owner == wanted.owner { return true }
            guard seen.insert(owner).inserted else { continue }
            for waiting in state.waiting where waiting.wanted.owner == owner && !waiting.key.isWholeFile {
                pending += (state.held[waiting.key]?.conflicts(with: waiting.wanted) ?? []).map(\.owner)
            }
        }
        return false
    }

    private static func held(_ lock: WireFileLock, _ session: UInt64) throws(CoordinationError) -> HeldLocks.Held {
        let end = lock.wholeFile ? UInt64.max : lock.end
        let start = lock.wholeFile ? 0 : lock.start
        guard start <= end else { throw CoordinationError(.invalidArgument, "the lock ends before it begins") }
        return HeldLocks.Held(
            range: start...end, isExclusive: lock.kind == .exclusive,
            owner: HeldLocks.Owner(session: session, number: lock.owner), pid: lock.pid)
    }
}
