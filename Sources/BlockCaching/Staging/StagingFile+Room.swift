import Platform

extension StagingFile {
    /// What must be free beside what others have reserved: a writer at 1 GB/s is looked at some forty times before.
    private static let ample: UInt64 = 4 << 30

    /// Whether the file may grow without `reserve`: the disk is far from full, and so is the quota, leaving out what can be
    /// evicted. Looking at the file from time to time (`account`) keeps the tier right then. Blocks on the disk.
    package var hasAmpleRoom: Bool { tier.hasRoom(for: Self.ample) }
}

extension Tier {
    // Of the quota: what stays free for those who ask.
    private static let share: UInt64 = 10

    fileprivate func hasRoom(for bytes: UInt64) -> Bool {
        guard let free = try? directory.space().bytes else { return false }
        let quota = configuration.quota
        let needed = bytes + quota / Self.share
        return state.withLock { state in
            guard state.health == .ok, free >= configuration.floorFreeBytes + state.reserved + bytes else {
                return false
            }
            let level = state.used + state.reserved
            return level - min(level, state.policy.weight) + needed <= quota
        }
    }
}
