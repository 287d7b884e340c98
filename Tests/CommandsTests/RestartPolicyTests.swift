import Testing

@testable import Commands

@Suite struct RestartPolicyTests {
    @Test func theFirstDeathsAreFollowedAtOnce() {
        var policy = RestartPolicy()
        #expect((0..<3).map { _ in policy.delay(after: 0) } == [0, 0, 0])
    }

    @Test func deathsInARowAreWaitedForLongerAndEnd() {
        var policy = RestartPolicy()
        let delays = (0..<RestartPolicy.maximumDeaths + 1).map { _ in policy.delay(after: 5) }
        #expect(delays.last == .some(nil))
        let waited = delays.compactMap { $0 }
        #expect(waited.count == RestartPolicy.maximumDeaths)
        #expect(waited == waited.sorted())
        #expect(waited.max() == 2000)
    }

    @Test func aLifeMakesUpForDeaths() {
        var policy = RestartPolicy()
        for _ in 0..<100 { #expect(policy.delay(after: RestartPolicy.atonement) == 0) }
        for _ in 0..<6 { _ = policy.delay(after: 0) }
        #expect(policy.delay(after: 0) != 0)
        #expect(policy.delay(after: 100 * RestartPolicy.atonement) == 0)
    }
}
