import Coordination
import Logging
import Platform

/// What one mount's kernel is told to forget, in order.
///
/// Sent from a thread of its own: a client that does not read must hold up neither other clients nor a lookup. Because all
/// stays in order, from here through the socket to the kernel, one acknowledgement stands for everything before it.
final class NoticeQueue: Sendable {
    private struct State {
        /// Names and inodes that wait for the socket.
        var entries = 0
        var nextID: UInt64 = 1
        var unacknowledged: [UInt64: CheckedContinuation<Bool, Never>] = [:]
        /// What the kernel has not confirmed to have forgotten, with the number of the request that would confirm it.
        var unconfirmed: [(before: UInt64, message: WireInvalidate)] = []
        /// The queue of a session that goes on in this one, and the request whose answer stands for all that was told there.
        var former: (queue: NoticeQueue, request: UInt64)?
        /// The client says when its kernel has forgotten.
        var isConfirmed = false
        /// The client is gone; a successor is told later.
        var isKept = false
        var isClosed = false
    }

    /// So much is told before the client is asked to confirm.
    private static let unconfirmedLimit = 1000

    /// A client that is this far behind has stopped. What it would still have to hear would cost some 100 MB.
    private static let maximumEntries = 500_000
    /// A name has up to 255 bytes, a message up to 128 KiB.
    private static let entriesPerMessage = 300

    private let session: Session
    private let logger: Logger
    private let thread = WorkerThread(name: "larder-notices")
    private let state = Lock(State())

    init(_ session: Session, logger: Logger) {
        self.session = session
        self.logger = logger
    }

    /// The client will say when its kernel has forgotten: until then it is known what a successor must be told again.
    func expectConfirmations() { state.withLock { $0.isConfirmed = true } }

    /// Tells the kernel, soon. Any thread; does not block.
    func tell(_ message: WireInvalidate) {
        let count = message.names.count + message.inodes.count
        let (fits, isKept, confirmation) = state.withLock { state -> (Bool, Bool, UInt64?) in
            state.entries += state.isKept ? 0 : count
            if state.isConfirmed { state.unconfirmed.append((state.nextID, message)) }
            let mustConfirm = state.isConfirmed && state.unconfirmed.count % Self.unconfirmedLimit == 0 && !state.isKept
            defer { state.nextID += mustConfirm ? 1 : 0 }
            let fits = state.entries <= Self.maximumEntries && state.unconfirmed.count <= Self.maximumEntries
            return (fits, state.isKept, mustConfirm ? state.nextID : nil)
        }
        if isKept { return }
        guard fits else {
            logger.warning(
                "session \(session.number) of pid \(session.peer.pid) does not read its notices and is closed")
            return session.disconnect()
        }
        thread.submit { [self] in
            for part in message.split(limit: Self.entriesPerMessage) { session.notify(.invalidate(part)) }
            state.withLock { $0.entries -= count }
            if let confirmation { _ = session.request(.invalidate(.init()), id: confirmation) }
        }
    }

    /// Waits until the kernel has forgotten all that it was told before, or the session has ended. False when the task was
    /// cancelled first.
    func settled() async -> Bool {
        let id = state.withLock { state in
            defer { state.nextID += 1 }
            return state.nextID
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let hasEnded = state.withLock { state in
                    if !state.isClosed { state.unacknowledged[id] = continuation }
                    return state.isClosed
                }
                if hasEnded { return continuation.resume(returning: true) }
                thread.submit { [session] in _ = session.request(.invalidate(.init()), id: id) }
                // A cancellation that came before the continuation was known did not find it.
                if Task.isCancelled { resume(id, returning: false) }
            }
        } onCancel: {
            resume(id, returning: false)
        }
    }

    /// The client has answered request `id`. On its receive thread.
    func acknowledged(_ id: UInt64) {
        let former = state.withLock { state -> NoticeQueue? in
            state.unconfirmed.removeAll { $0.before <= id }
            guard let former = state.former, former.request <= id else { return nil }
            state.former = nil
            return former.queue
        }
        former?.close()
        resume(id, returning: true)
    }

    /// The client is gone, and a successor may come: what it is told now waits for that.
    func keep() {
        thread.stop()
        state.withLock { $0.isKept = true }
    }

    /// Goes on with the queue of a session that this one takes over: all that was not confirmed there is told again, and who
    /// waits there waits for this client.
    func adopt(_ former: NoticeQueue) {
        former.keep()
        for (_, message) in former.state.withLock({ $0.unconfirmed }) { tell(message) }
        let id = state.withLock { state in
            defer { state.nextID += 1 }
            state.former = (former, state.nextID)
            return state.nextID
        }
        thread.submit { [session] in _ = session.request(.invalidate(.init()), id: id) }
    }

    /// The session has ended: nothing of it is left to be told.
    func close() {
        thread.stop()
        let (waiting, former) = state.withLock { state in
            state.isClosed = true
            defer {
                state.unacknowledged = [:]
                state.unconfirmed = []
                state.former = nil
            }
            return (Array(state.unacknowledged.values), state.former?.queue)
        }
        former?.close()
        for continuation in waiting { continuation.resume(returning: true) }
    }

    private func resume(_ id: UInt64, returning acknowledged: Bool) {
        state.withLock { $0.unacknowledged.removeValue(forKey: id) }?.resume(returning: acknowledged)
    }
}

extension WireInvalidate {
    /// Pieces of at most `limit` names or inodes.
    func split(limit: Int) -> [WireInvalidate] {
        if names.count + inodes.count <= limit { return [self] }
        var parts: [WireInvalidate] = []
        for start in stride(from: 0, to: names.count, by: limit) {
            var part = WireInvalidate()
            part.names = Array(names[start..<min(start + limit, names.count)])
            parts.append(part)
        }
        for start in stride(from: 0, to: inodes.count, by: limit) {
            var part = WireInvalidate()
            part.inodes = Array(inodes[start..<min(start + limit, inodes.count)])
            parts.append(part)
        }
        return parts
    }
}
