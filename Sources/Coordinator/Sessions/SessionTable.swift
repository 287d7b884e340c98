import Coordination
import Platform

/// The sessions under way, and what is told to all of them.
final class SessionTable: Sendable {
    /// By the number of their connection.
    private let sessions = Lock<[UInt64: ClientSession]>([:])
    /// How long a session whose process has died is kept for a successor.
    private let grace: Duration
    /// Called with the number of mounts whenever it changes. Any thread.
    private let onMountCount: @Sendable (Int) -> Void

    init(grace: Duration, onMountCount: @escaping @Sendable (Int) -> Void) {
        self.grace = grace
        self.onMountCount = onMountCount
    }

    func add(_ session: ClientSession) {
        sessions.withLock { $0[session.session.number] = session }
        onMountCount(mounts().count)
    }

    func remove(_ session: ClientSession) {
        _ = sessions.withLock { $0.removeValue(forKey: session.session.number) }
        onMountCount(mounts().count)
    }

    /// A session whose process has died waits for a successor; without one it ends.
    func keep(_ session: ClientSession) {
        Task { [grace] in
            try? await Task.sleep(for: grace)
            session.endUnlessTakenOver()
        }
    }

    /// A client has a new connection: the session that it had over another goes on with it, or ends.
    func replace(_ client: ByteString, by successor: ClientSession, goesOn: Bool) {
        guard client.count == 16 else { return }
        for former in mounts().reversed() where former !== successor {
            former.surrender(to: successor, client, goesOn: goesOn)
        }
    }

    func mounts() -> [ClientSession] {
        sessions.withLock { Array($0.values) }.filter(\.isMount).sorted { $0.number < $1.number }
    }

    /// Tells the kernels of all mounts what to forget, soon. Any thread; does not block.
    func broadcast(_ message: WireInvalidate, except origin: UInt64? = nil) {
        for mount in mounts() where mount.number != origin { mount.notices.tell(message) }
    }

    /// How long a change waits at most for the kernel of another mount.
    private static let changePatience: Duration = .seconds(1)

    /// Waits until the kernels of the other mounts have forgotten what a change has made wrong, so that it is seen through
    /// all of them once its caller is answered.
    ///
    /// A mount whose kernel itself waits for the answer to a change in one of the directories is not waited for: it
    /// forgets as soon as it has that answer, and two mounts that change one directory would else wait for each other.
    func settleChange(in directories: Set<UInt64>, from origin: ClientSession) async {
        let others = mounts().filter { $0.acknowledges && $0 !== origin }
        guard !others.isEmpty else { return }
        await withTaskGroup(of: Void.self) { group in
            for mount in others {
                group.addTask {
                    await withTaskGroup(of: Void.self) { race in
                        race.addTask { _ = await mount.notices.settled() }
                        race.addTask { await mount.busy.wait(for: directories) }
                        race.addTask { try? await Task.sleep(for: Self.changePatience) }
                        await race.next()
                        race.cancelAll()
                    }
                }
            }
        }
    }

    /// Waits until the kernels of all mounts have forgotten what they were told before this call, so that no reader of this
    /// node sees it any more. Mounts that leave meanwhile count as done, and so do those of a release that cannot say.
    ///
    /// A kernel forgets a name under the lock of its directory, which it also holds while it waits for the answer to a
    /// change or a lookup there. So a request of a mount's must not wait for that mount (`except`), nor two requests of
    /// two mounts for each other: answer first, then wait, or wait no longer than `patience`.
    ///
    /// - Returns: the mounts that did not say so within `patience`: stopped, or waiting for a store.
    func settle(within patience: Duration, except excluded: [ClientSession] = []) async -> [ClientSession] {
        let waited = mounts().filter { mount in mount.acknowledges && !excluded.contains { $0 === mount } }
        guard !waited.isEmpty else { return [] }
        return await withTaskGroup(of: (mount: ClientSession, isDone: Bool)?.self) { group in
            for mount in waited { group.addTask { (mount, await mount.notices.settled()) } }
            group.addTask {
                try? await Task.sleep(for: patience)
                return nil
            }
            var silent: [ClientSession] = []
            var left = waited.count
            while left > 0, let outcome = await group.next() {
                guard let outcome else {
                    group.cancelAll()
                    continue
                }
                left -= 1
                if !outcome.isDone { silent.append(outcome.mount) }
            }
            group.cancelAll()
            return silent
        }
    }
}
