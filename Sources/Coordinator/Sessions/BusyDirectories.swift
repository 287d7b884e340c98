import Platform

/// The directories in which one mount's kernel waits for the answer to a change, holding their locks meanwhile.
final class BusyDirectories: Sendable {
    private struct Watcher {
        let directories: Set<UInt64>
        let continuation: CheckedContinuation<Void, Never>
    }

    private struct State {
        var counts: [UInt64: Int] = [:]
        var watchers: [UInt64: Watcher] = [:]
        var nextNumber: UInt64 = 0
    }

    private let state = Lock(State())

    func enter(_ directories: Set<UInt64>) {
        let watchers = state.withLock { state -> [Watcher] in
            for directory in directories { state.counts[directory, default: 0] += 1 }
            let concerned = state.watchers.filter { !$0.value.directories.isDisjoint(with: directories) }
            for number in concerned.keys { state.watchers[number] = nil }
            return Array(concerned.values)
        }
        for watcher in watchers { watcher.continuation.resume() }
    }

    func leave(_ directories: Set<UInt64>) {
        state.withLock { state in
            for directory in directories {
                let count = state.counts[directory, default: 1] - 1
                state.counts[directory] = count == 0 ? nil : count
            }
        }
    }

    /// Returns once one of the directories is busy, or when the task is cancelled.
    func wait(for directories: Set<UInt64>) async {
        let number = state.withLock { state in
            defer { state.nextNumber += 1 }
            return state.nextNumber
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if Task.isCancelled || directories.contains(where: { state.counts[$0] != nil }) { return true }
                    state.watchers[number] = Watcher(directories: directories, continuation: continuation)
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.watchers.removeValue(forKey: number) }?.continuation.resume()
        }
    }
}
