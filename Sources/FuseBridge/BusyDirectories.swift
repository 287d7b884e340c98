import CFuse
import Platform

/// The directories whose locks this mount's kernel holds while it waits for the answer to a change.
///
/// The kernel takes a directory's lock to forget a name in it, and that wait cannot be killed. A mount that was killed
/// then would not let go of its FUSE connection, and the caller of the change would wait for ever. So the mount waits
/// here, and goes to the kernel when the change is answered.
final class BusyDirectories: Sendable {
    private struct State {
        var counts: [fuse_ino_t: Int] = [:]
        var waiting: [fuse_ino_t: [OneShot<Bool>]] = [:]
        var hasEnded = false
    }

    private let state = Lock(State())

    func enter(_ directories: [fuse_ino_t]) {
        state.withLock { state in for directory in directories { state.counts[directory, default: 0] += 1 } }
    }

    /// For each `enter`, when the change is answered.
    func leave(_ directories: [fuse_ino_t]) {
        let woken = state.withLock { state -> [OneShot<Bool>] in
            var woken: [OneShot<Bool>] = []
            for directory in directories {
                let count = (state.counts[directory] ?? 1) - 1
                state.counts[directory] = count == 0 ? nil : count
                if count == 0 { woken += state.waiting.removeValue(forKey: directory) ?? [] }
            }
            return woken
        }
        for waiter in woken { waiter.set(true) }
    }

    /// The kernel has let go of the connection, and holds no locks for it: nobody waits any more.
    func end() {
        let woken = state.withLock { state -> [OneShot<Bool>] in
            state.hasEnded = true
            defer { state.waiting = [:] }
            return state.waiting.values.flatMap { $0 }
        }
        for waiter in woken { waiter.set(true) }
    }

    /// Returns when the changes in a directory that were under way are answered.
    @available(*, noasync, message: "blocks its thread")
    func wait(for directory: fuse_ino_t) {
        let waiter = OneShot<Bool>()
        let isBusy = state.withLock { state in
            guard state.counts[directory] != nil, !state.hasEnded else { return false }
            state.waiting[directory, default: []].append(waiter)
            return true
        }
        if isBusy { _ = waiter.wait() }
    }
}
