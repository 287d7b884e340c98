import Testing
import UnderStores

@Suite struct Retrying {
    @Test func delaysDoubleUpToTheLongestAndAreSpread() {
        let policy = RetryPolicy(
            attempts: 20, budget: .seconds(1000), firstDelay: .milliseconds(100), longestDelay: .seconds(5))
        for (attempt, ceiling) in [(1, 100), (2, 200), (3, 400), (6, 3200), (7, 5000), (19, 5000)] {
            let least = policy.delay(afterAttempt: attempt, elapsed: .zero, chance: 0)
            let most = policy.delay(afterAttempt: attempt, elapsed: .zero, chance: 0.999_999)
            #expect(least == .milliseconds(ceiling) / 2)
            #expect((most ?? .zero) > .milliseconds(ceiling) * 0.99 && (most ?? .zero) <= .milliseconds(ceiling))
        }
    }

    @Test func attemptsAndTimeAreBounded() {
        let policy = RetryPolicy(attempts: 3, budget: .seconds(10))
        #expect(policy.delay(afterAttempt: 2, elapsed: .zero, chance: 0.5) != nil)
        #expect(policy.delay(afterAttempt: 3, elapsed: .zero, chance: 0.5) == nil)
        #expect(policy.delay(afterAttempt: 1, elapsed: .seconds(10), chance: 0.5) == nil)
    }

    @Test func retryAfterIsNeverUndercutAndMayExhaustTheBudget() {
        let policy = RetryPolicy(budget: .seconds(30))
        #expect(policy.delay(afterAttempt: 1, elapsed: .zero, retryAfter: .seconds(7), chance: 0) == .seconds(7))
        #expect(policy.delay(afterAttempt: 1, elapsed: .zero, retryAfter: .seconds(31), chance: 0) == nil)
        #expect(policy.delay(afterAttempt: 1, elapsed: .seconds(25), retryAfter: .seconds(7), chance: 0) == nil)
    }

    @Test func theDefaultPolicyLastsAboutHalfAMinute() {
        let policy = RetryPolicy()
        var elapsed = Duration.zero
        var attempt = 1
        while let delay = policy.delay(afterAttempt: attempt, elapsed: elapsed, chance: 0.5) {
            elapsed += delay
            attempt += 1
        }
        #expect(elapsed > .seconds(10) && elapsed <= .seconds(30) && attempt <= 10)
    }

    @Test func aStormRunsOutOfRetries() {
        var allowance = RetryAllowance(capacity: 10, refill: 1, reward: 0.5, now: 0)
        func granted(_ asked: Int, at now: UInt64) -> Int { (0..<asked).count { _ in allowance.take(now: now) } }
        #expect(granted(11, at: 0) == 10, "all are spent")
        #expect(granted(1, at: 900_000_000) == 0, "not a whole one has come back")
        #expect(granted(2, at: 1_100_000_000) == 1)
        allowance.reward(successes: 2)
        #expect(granted(1, at: 1_100_000_000) == 1, "two successes pay for one retry")
        #expect(granted(1, at: 0) == 0, "a clock that goes back gives nothing")
        allowance.reward(successes: 1_000_000)
        #expect(granted(11, at: 1_100_000_000) == 10, "never more than the capacity")
    }
}
