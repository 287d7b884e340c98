import Platform

/// Keeps the credentials that `load` gives and renews them in time: one load in flight however many ask, renewal in the
/// background while the old ones are still good, and these served on when it fails.
final class RefreshedCredentials: Sendable {
    typealias Outcome = Result<AWSCredentials, StoreError>

    private struct State {
        var current: AWSCredentials?
        /// When to renew `current`; nil for never.
        var renewal: FileTime?
        var isRejected = false
        /// The last load failed, and when.
        var failure: (error: StoreError, at: FileTime)?
        var isLoading = false
        var nextToken = 0
        var waiting: [Int: CheckedContinuation<Outcome, Never>] = [:]
    }

    // AWS documents that new instance and container credentials are there at least five minutes before the old expire.
    private static let renewalLead: Int64 = 300
    private static let jitterSpan = 60.0
    /// While old credentials are good there is time; without any, callers wait.
    private static let pauseAfterFailedRenewal: Int64 = 30
    private static let pauseAfterFailedLoad: Int64 = 2

    private let surroundings: AWSSurroundings
    private let load: @Sendable () async -> Outcome
    private let state = Lock(State())

    init(in surroundings: AWSSurroundings, load: @escaping @Sendable () async -> Outcome) {
        self.surroundings = surroundings
        self.load = load
    }

    private enum Step {
        case answer(Outcome)
        case wait
    }

    func credentials() async throws(StoreError) -> AWSCredentials {
        let now = surroundings.now()
        let (step, startsLoading) = state.withLock { state -> (Step, Bool) in
            if let current = state.current, Self.isGood(state, at: now) {
                let isDue = state.renewal.map { $0 <= now } ?? false
                let starts = isDue && !state.isLoading && !Self.failedWithin(Self.pauseAfterFailedRenewal, state, now)
                if starts { state.isLoading = true }
                return (.answer(.success(current)), starts)
            }
            if let failure = state.failure, !state.isLoading, Self.failedWithin(Self.pauseAfterFailedLoad, state, now) {
                return (.answer(.failure(failure.error)), false)
            }
            let starts = !state.isLoading
            state.isLoading = true
            return (.wait, starts)
        }
        if startsLoading { Task { await renew() } }
        switch step {
        case .answer(let outcome): return try outcome.get()
        case .wait: return try await waitForLoad().get()
        }
    }

    /// Unless newer credentials are at hand, the next call of `credentials` waits for a new load.
    func invalidate(_ rejected: AWSCredentials) {
        state.withLock { state in
            if state.current == rejected { state.isRejected = true }
        }
    }

    /// Returns when no load is under way; for tests.
    func settle() async {
        if state.withLock({ $0.isLoading }) { _ = await waitForLoad() }
    }

    private static func isGood(_ state: State, at now: FileTime) -> Bool {
        guard let current = state.current, !state.isRejected else { return false }
        return current.expiry.map { now < $0 } ?? true
    }

    private static func failedWithin(_ seconds: Int64, _ state: State, _ now: FileTime) -> Bool {
        guard let failure = state.failure else { return false }
        // A clock that was set back must not make the pause longer.
        return failure.at <= now && now.seconds - failure.at.seconds < seconds
    }

    private func waitForLoad() async -> Outcome {
        let token = state.withLock { state in
            state.nextToken += 1
            return state.nextToken
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let outcome: Outcome? = state.withLock { state in
                    if Task.isCancelled { return .failure(.cancelled) }
                    if state.isLoading {
                        state.waiting[token] = continuation
                        return nil
                    }
                    // The load has ended in between.
                    if let failure = state.failure { return .failure(failure.error) }
                    return state.current.map { .success($0) } ?? .failure(.cancelled)
                }
                if let outcome { continuation.resume(returning: outcome) }
            }
        } onCancel: {
            state.withLock { $0.waiting.removeValue(forKey: token) }?.resume(returning: .failure(.cancelled))
        }
    }

    private func renew() async {
        let outcome = await load()
        let now = surroundings.now()
        let jitter = surroundings.jitter()
        let waiting = state.withLock { state in
            state.isLoading = false
            switch outcome {
            case .success(let credentials):
                state.current = credentials
                state.isRejected = false
                state.failure = nil
                state.renewal = credentials.expiry.map { Self.renewal(of: $0, now: now, jitter: jitter) }
            case .failure(let error):
                state.failure = (error, now)
            }
            defer { state.waiting.removeAll() }
            return Array(state.waiting.values)
        }
        for continuation in waiting { continuation.resume(returning: outcome) }
    }

    /// Five to six minutes before the expiry, but not in the first half of a short life.
    private static func renewal(of expiry: FileTime, now: FileTime, jitter: Double) -> FileTime {
        let lead = renewalLead + Int64(jitter * jitterSpan)
        return FileTime(seconds: expiry.seconds - min(lead, max(0, expiry.seconds - now.seconds) / 2))
    }
}
