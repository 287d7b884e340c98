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
        var isClosed = false
    }

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

    /// Tells the kernel, soon. Any thread; does not block.
    func tell(_ message: WireInvalidate) {
        let count = message.names.count + message.inodes.count
        let fits = state.withLock { state in
            state.entries += count
            return state.entries <= Self.maximumEntries
        }
        guard fits else {
            logger.warning(
                "session \(session.number) of pid \(session.peer.pid) does not read its notices and is closed")
            return session.disconnect()
        }
        thread.submit { [self] in
            for part in message.split(limit: Self.entriesPerMessage) { session.notify(.invalidate(part)) }
            state.withLock { $0.entries -= count }
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
    func acknowledged(_ id: UInt64) { resume(id, returning: true) }

    /// The session has ended: nothing of it is left to be told.
    func close() {
        thread.stop()
        let waiting = state.withLock { state in
            state.isClosed = true
            defer { state.unacknowledged = [:] }
            return Array(state.unacknowledged.values)
        }
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
