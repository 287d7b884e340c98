import BlockMaps
import Platform

/// One run of absent blocks that is being brought. Its mutable fields are guarded by the state lock of its entry.
final class Fetch: @unchecked Sendable {
    let blocks: Range<Int>
    /// Where arriving blocks go; nil: past the cache.
    let file: BlockFile?
    let ticket: FetchScheduler.Ticket
    let urgency: FetchUrgency
    /// Goes on when no reader waits for it.
    let isDetached: Bool
    /// The first block that has not arrived.
    var next: Int
    /// Takes the blocks from `bypassStart` on, once the fetch goes past the cache.
    var bypass: ReadThrough?
    var bypassStart: Int
    var waiters: [Waiter] = []
    /// Takes the bytes while they come.
    var sink: FetchSink?
    /// Blocks from `next` on that the sink has whole and has not written yet.
    var held: Range<Int> = 0..<0
    var isCancelled = false
    var task: Task<Void, Never>?

    init(blocks: Range<Int>, file: BlockFile?, ticket: FetchScheduler.Ticket, urgency: FetchUrgency, isDetached: Bool) {
        self.blocks = blocks
        self.file = file
        self.ticket = ticket
        self.urgency = urgency
        self.isDetached = isDetached
        next = blocks.lowerBound
        bypassStart = blocks.upperBound
    }

    var outstanding: Range<Int> { min(next, blocks.upperBound)..<blocks.upperBound }
    /// Whether nothing but held blocks is missing of what a reader waits for in this fetch.
    func holdsRest(of waiter: Waiter) -> Bool {
        let wanted = waiter.blocks.clamped(to: blocks)
        return wanted.overlaps(held) && wanted.upperBound <= held.upperBound
    }

    /// Whether some reader waits for a block that has not arrived.
    var isAwaited: Bool { waiters.contains { !$0.isDone && $0.blocks.overlaps(outstanding) } }
}

/// One call that waits for blocks. Its fields are guarded by the state lock of its entry.
final class Waiter: @unchecked Sendable {
    enum Outcome: Sendable {
        /// Everything was present or arrived; the buffers hold what went past the cache.
        case arrived([ReadThrough])
        /// A fetch it counted on ended without fault of the source: look again.
        case retry
    }

    let blocks: Range<Int>
    /// Blocks that must still arrive.
    var remaining = 0
    var buffers: [ReadThrough] = []
    var fetches: [Fetch] = []
    private var outcome: Result<Outcome, any Error>?
    private var continuation: CheckedContinuation<Outcome, any Error>?

    init(blocks: Range<Int>) { self.blocks = blocks }

    var isDone: Bool { outcome != nil }

    func add(_ buffer: ReadThrough) {
        if !buffers.contains(where: { $0 === buffer }) { buffers.append(buffer) }
    }

    /// Fixes the outcome, once. Returns what to resume outside the lock.
    func finish(_ result: Result<Outcome, any Error>) -> Wakeup? {
        guard outcome == nil else { return nil }
        outcome = result
        fetches = []
        defer { continuation = nil }
        return continuation.map { Wakeup(continuation: $0, result: result) }
    }

    /// Takes the continuation, or returns the outcome when it is there already.
    func attach(_ newContinuation: CheckedContinuation<Outcome, any Error>) -> Wakeup? {
        if let outcome { return Wakeup(continuation: newContinuation, result: outcome) }
        continuation = newContinuation
        return nil
    }

    struct Wakeup {
        let continuation: CheckedContinuation<Outcome, any Error>
        let result: Result<Outcome, any Error>
        func resume() { continuation.resume(with: result) }
    }
}
