import Coordination
import Platform

/// The sessions under way, and what is told to all of them.
final class SessionTable: Sendable {
    private let sessions = Lock<[UInt64: ClientSession]>([:])
    /// Called with the number of mounts whenever it changes. Any thread.
    private let onMountCount: @Sendable (Int) -> Void
    /// Notifications are sent from a thread of their own: a client that does not read must not hold up a lookup.
    private let notifier = WorkerPool(name: "notify", threads: 1)

    init(onMountCount: @escaping @Sendable (Int) -> Void) { self.onMountCount = onMountCount }

    func add(_ session: ClientSession) {
        sessions.withLock { $0[session.number] = session }
        onMountCount(mounts().count)
    }

    func remove(_ session: ClientSession) {
        _ = sessions.withLock { $0.removeValue(forKey: session.number) }
        onMountCount(mounts().count)
    }

    func mounts() -> [ClientSession] {
        sessions.withLock { Array($0.values) }.filter(\.isMount).sorted { $0.number < $1.number }
    }

    /// Tells the kernels of all mounts what to forget, in messages that fit.
    func broadcast(_ message: WireInvalidate) {
        notifier.submit { [self] in
            let mounts = mounts()
            guard !mounts.isEmpty else { return }
            for part in message.split(limit: 300) {
                for mount in mounts { mount.notify(.invalidate(part)) }
            }
        }
    }
}

extension WireInvalidate {
    /// Pieces of at most `limit` names or inodes: a name has up to 255 bytes, a message up to 128 KiB.
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
