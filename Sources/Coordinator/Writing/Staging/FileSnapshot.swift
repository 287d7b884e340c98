import Platform
import SystemPackage

/// How a staged file looked when it was committed: it has changed since when it looks different.
struct FileSnapshot: Hashable, Sendable {
    var size: UInt64
    var modified: FileTime
    var changed: FileTime
    /// Whether a write right afterwards could have left the same times.
    var isYoung: Bool

    // Since Linux 6.13 a write gets a time of its own once somebody has asked for the time of the write before it
    // (Documentation/filesystems/multigrain-ts.rst). Before, times move with the timer tick: 10 ms at most.
    private static let isExact = Machine.kernelVersion() >= (6, 13)
    private static let tick: Int64 = 20_000_000

    init(size: UInt64, modified: FileTime, changed: FileTime, isYoung: Bool) {
        self.size = size
        self.modified = modified
        self.changed = changed
        self.isYoung = isYoung
    }

    init(_ status: FileStatus, now: FileTime = .now(), isExact: Bool = Self.isExact) {
        size = status.size
        modified = status.modified
        changed = status.changed
        let age =
            (now.seconds - modified.seconds) * 1_000_000_000 + Int64(now.nanoseconds)
            - Int64(modified.nanoseconds)
        isYoung = !isExact && abs(age) < Self.tick
    }

    /// Whether size and times are the same.
    func looksLike(_ other: FileSnapshot) -> Bool {
        size == other.size && modified == other.modified && changed == other.changed
    }
}
