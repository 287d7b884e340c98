/// When and how often a failed request is sent again: exponential backoff with jitter ("Exponential Backoff And
/// Jitter", AWS Architecture Blog), bounded by attempts and by time. Pure: the caller gives time and chance.
package struct RetryPolicy: Hashable, Sendable {
    /// Sendings of one request, the first included. 1…
    package var attempts: Int
    /// From the first sending to the last, waits included.
    package var budget: Duration
    /// The longest wait before the first repetition; it doubles with each.
    package var firstDelay: Duration
    package var longestDelay: Duration

    package init(
        attempts: Int = 10, budget: Duration = .seconds(30), firstDelay: Duration = .milliseconds(100),
        longestDelay: Duration = .seconds(5)
    ) {
        self.attempts = max(1, attempts)
        self.budget = budget
        self.firstDelay = firstDelay
        self.longestDelay = longestDelay
    }

    /// The wait before the next sending, or nil to give up.
    /// - Parameters:
    ///   - attempt: how often the request was sent, 1….
    ///   - elapsed: since the first sending began.
    ///   - retryAfter: what the store asked for; it is never undercut.
    ///   - chance: 0..<1, uniformly distributed.
    package func delay(
        afterAttempt attempt: Int, elapsed: Duration, retryAfter: Duration? = nil, chance: Double
    ) -> Duration? {
        guard attempt < attempts else { return nil }
        let doublings = min(attempt - 1, 30)
        let ceiling = min(longestDelay, firstDelay * (1 << doublings))
        // Between half of the ceiling and all of it: spread out, and never at once.
        let jittered = ceiling * (0.5 + chance / 2)
        let delay = max(jittered, retryAfter ?? .zero)
        return elapsed + delay <= budget ? delay : nil
    }
}

/// A token bucket that all requests of a store share, so that retries cannot multiply the load on a store that is in
/// trouble. Pure: the caller gives time.
package struct RetryAllowance: Hashable, Sendable {
    /// Retries that may be under way before successes or time pay for more.
    package let capacity: Double
    /// Tokens that come back each second.
    package let refill: Double
    /// Tokens that each success gives back.
    package let reward: Double
    private var tokens: Double
    private var updated: UInt64

    /// - Parameter now: nanoseconds of any clock that does not go back.
    package init(capacity: Double = 200, refill: Double = 5, reward: Double = 0.2, now: UInt64) {
        self.capacity = capacity
        self.refill = refill
        self.reward = reward
        tokens = capacity
        updated = now
    }

    /// Whether one more retry may be sent now; it is paid for when so.
    package mutating func take(now: UInt64) -> Bool {
        if now > updated {
            tokens = min(capacity, tokens + Double(now - updated) / 1e9 * refill)
            updated = now
        }
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }

    package mutating func reward(successes: Int = 1) { tokens = min(capacity, tokens + reward * Double(successes)) }
}
