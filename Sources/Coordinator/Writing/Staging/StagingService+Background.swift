import Coordination
import Platform
import UnderStores

/// Uploads that nobody waits for: first acknowledged, first begun.
extension StagingService {
    /// - Parameter lingers: whether it may stay for a while, as `StagingConfiguration.linger` says.
    func enqueue(_ file: StagedFile, lingers: Bool = false) {
        let isNew = file.state.withLock { state in
            guard state.phase == .current, !state.isQueued else { return false }
            state.isQueued = true
            return true
        }
        guard lingers, configuration.linger > .zero else {
            if isNew { state.withLock { $0.queue.append(file) } }
            return pump()
        }
        let now = clock.now()
        let mustSchedule = state.withLock { $0.lingering.add(isNew ? file : nil, at: now) }
        if mustSchedule { lookAtLingering(after: configuration.linger) }
    }

    private func lookAtLingering(after delay: Duration) {
        clock.schedule(after: delay) { [weak self] in
            guard let self, !isClosed else { return }
            let now = clock.now()
            let next = state.withLock { state -> Duration? in
                let (due, next) = state.lingering.takeDue(at: now, configuration.linger, configuration.longestLinger)
                state.queue += due
                return next
            }
            if let next { lookAtLingering(after: next) }
            pump()
        }
    }

    /// What lingers is uploaded now: somebody waits for its room.
    private func hurry() {
        state.withLock { $0.queue += $0.lingering.takeAll() }
        pump()
    }

    private func pump() {
        while true {
            let next = state.withLock { state -> StagedFile? in
                guard !isClosed, state.running < configuration.backgroundFiles, !state.queue.isEmpty else { return nil }
                state.running += 1
                return state.queue.removeFirst()
            }
            guard let file = next else { return }
            Task(executorPreference: pool) { [self] in
                _ = await join(file, isUrgent: false, inspects: false)
                state.withLock { $0.running -= 1 }
                pump()
            }
        }
    }

    /// Tries a file again after a pause that doubles with each failure.
    func scheduleRetry(_ file: StagedFile) {
        let failures = file.state.withLock { state -> Int? in
            guard state.phase == .current, !state.isRetryScheduled else { return nil }
            state.isRetryScheduled = true
            return state.failures
        }
        guard let failures, !isClosed else { return }
        clock.schedule(after: pause(after: failures)) { [weak self] in
            file.state.withLock { $0.isRetryScheduled = false }
            self?.enqueue(file)
        }
        // What may take long to upload is made to survive a reboot as well.
        pool.submit { [self] in
            if file.state.withLock({ $0.acknowledged != nil && !$0.isDurable }) { try? makeDurable(file) }
        }
    }

    private func pause(after failures: Int) -> Duration {
        let doubled = configuration.firstRetry * (1 << min(max(failures - 1, 0), 16))
        // Spread, so that a node's files do not come back all at once.
        return min(doubled, configuration.longestRetry) * Double.random(in: 0.5...1)
    }

    /// What a flush has done.
    package struct FlushOutcome: Sendable {
        package var files = 0
        package var bytes: UInt64 = 0
        package var failures: [(path: ByteString, error: CoordinationError)] = []
    }

    /// Brings every matching file with changes to its store now, whatever its last error; `mustCache` files stay.
    package func flush(matching: @Sendable (StagedFile) -> Bool) async -> FlushOutcome {
        let files = files.filter { $0.writeType != .mustCache && matching($0) && $0.isDirty }
        // A group without results: optimised builds of Swift 6.3 trap on groups whose results are tuples.
        let progress = Lock(FlushProgress(rest: files[...]))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<min(configuration.backgroundFiles, files.count) {
                group.addTask { [self] in
                    while let file = progress.withLock({ $0.rest.popFirst() }) {
                        file.state.withLock { $0.failures = 0 }
                        let result = await join(file, isUrgent: true, inspects: false)
                        progress.withLock { $0.note(result, of: file.path) }
                    }
                }
            }
        }
        return progress.withLock { $0.outcome }
    }

    private struct FlushProgress {
        var rest: ArraySlice<StagedFile>
        var outcome = FlushOutcome()

        mutating func note(_ result: Result<ObjectAttributes?, CoordinationError>, of path: ByteString) {
            switch result {
            case .success(let attributes):
                outcome.files += 1
                outcome.bytes += attributes?.size ?? 0
            case .failure(let error): outcome.failures.append((path, error))
            }
        }
    }

    // MARK: Room

    /// Returns when there is room for `bytes` more of the file: clean data is evicted, and files that are being uploaded
    /// are waited for, as their space comes back with their commit.
    /// - Throws: ENOSPC when nothing can make room.
    package func reserve(_ file: StagedFile, _ bytes: UInt64) async throws(CoordinationError) {
        file.file.account()
        // A file that was just closed is not uploaded or given back yet, and nothing says so: look again for a while.
        var looks = 20
        while !isClosed {
            if await file.file.reserve(bytes) { return }
            if await waitForRoom(besides: file) { continue }
            looks -= 1
            guard looks > 0, !Task.isCancelled else { break }
            try? await Task.sleep(for: .milliseconds(100))
        }
        throw CoordinationError(
            .noSpace, "no room for \(bytes) more bytes of \(file.path), and no upload under way that will make some")
    }

    /// Waits until a file has gone or an upload has failed; false when there is none to wait for.
    private func waitForRoom(besides file: StagedFile) async -> Bool {
        hurry()
        let others = files.filter { $0 !== file }
        return await withCheckedContinuation { continuation in
            let isAwaited = state.withLock { state in
                let mayGo =
                    !isClosed
                    && others.contains { other in
                        other.state.withLock {
                            $0.isReleased && $0.phase == .current && ($0.flight != nil || $0.isQueued)
                        }
                    }
                if mayGo { state.roomWaiters.append(continuation) }
                return mayGo
            }
            if !isAwaited { continuation.resume(returning: false) }
        }
    }

    func wakeRoomWaiters() {
        let waiters = state.withLock { state in
            defer { state.roomWaiters = [] }
            return state.roomWaiters
        }
        for waiter in waiters { waiter.resume(returning: true) }
    }
}
