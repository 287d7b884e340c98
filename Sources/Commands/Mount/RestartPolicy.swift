/// How often a mount's process may die before nobody tries again.
///
/// One that dies now and then is replaced at once. One that dies again and again is waited for longer each time, and then given
/// up: whatever kills it would else keep its callers waiting for ever.
struct RestartPolicy {
    /// Deaths that were not lived down yet.
    private var deaths = 0
    static let maximumDeaths = 12
    /// So long a life makes up for one death, in milliseconds.
    static let atonement = 3000
    private static let longestDelay = 2000

    /// How long to wait, in milliseconds, before the next start; nil: no more.
    /// - Parameter lifetime: of the process that has died, in milliseconds.
    mutating func delay(after lifetime: Int) -> Int? {
        deaths = max(0, deaths - lifetime / Self.atonement) + 1
        guard deaths <= Self.maximumDeaths else { return nil }
        // The first few at once: a kill of many processes is no fault of the mount's.
        return deaths <= 3 ? 0 : min(Self.longestDelay, 25 << (deaths - 3))
    }
}
