/// The advisory locks that are held on one inode: the rules of fcntl(2) and flock(2), without waiting.
struct HeldLocks: Sendable {
    /// Who holds a lock: the kernel's number of an owner means something within one mount.
    struct Owner: Hashable, Sendable {
        let session: UInt64
        let number: UInt64
    }

    struct Held: Hashable, Sendable {
        var range: ClosedRange<UInt64>
        let isExclusive: Bool
        let owner: Owner
        /// As the locking mount's pid namespace names it.
        let pid: Int32
        /// CLOCK_MONOTONIC nanoseconds at which a descriptor of the open file that holds it was closed; 0: not yet.
        var closedAt: UInt64 = 0
    }

    /// Sorted by nothing: files have few locks.
    private(set) var locks: [Held] = []

    var isEmpty: Bool { locks.isEmpty }

    /// The first lock of another owner that excludes `wanted`.
    func conflict(with wanted: Held) -> Held? {
        conflicts(with: wanted).min { $0.range.lowerBound < $1.range.lowerBound }
    }

    func conflicts(with wanted: Held) -> [Held] {
        locks.filter {
            $0.owner != wanted.owner && $0.range.overlaps(wanted.range) && ($0.isExclusive || wanted.isExclusive)
        }
    }

    /// Takes a lock that nothing excludes; what its owner held of the range before is replaced.
    mutating func take(_ wanted: Held) {
        release(wanted.range, of: wanted.owner)
        var merged = wanted
        // Neighbours of one kind become one lock, so that a file locked record by record has few.
        locks.removeAll { held in
            guard held.owner == wanted.owner, held.isExclusive == wanted.isExclusive else { return false }
            let touches =
                held.range.upperBound != .max && held.range.upperBound + 1 == merged.range.lowerBound
                || merged.range.upperBound != .max && merged.range.upperBound + 1 == held.range.lowerBound
            if touches {
                merged.range =
                    min(
                        held.range.lowerBound, merged.range.lowerBound)...max(
                        held.range.upperBound, merged.range.upperBound)
            }
            return touches
        }
        locks.append(merged)
    }

    /// Gives back what an owner holds of a range; a lock that reaches beyond keeps the rest.
    mutating func release(_ range: ClosedRange<UInt64>, of owner: Owner) {
        var rest: [Held] = []
        for held in locks {
            guard held.owner == owner, held.range.overlaps(range) else {
                rest.append(held)
                continue
            }
            var part = held
            if held.range.lowerBound < range.lowerBound {
                part.range = held.range.lowerBound...range.lowerBound - 1
                rest.append(part)
            }
            if held.range.upperBound > range.upperBound {
                part.range = range.upperBound + 1...held.range.upperBound
                rest.append(part)
            }
        }
        locks = rest
    }

    /// A descriptor of the open file that is `owner` has been closed, perhaps its last.
    mutating func noteClosed(_ owner: Owner, at time: UInt64) {
        for index in locks.indices where locks[index].owner == owner { locks[index].closedAt = time }
    }

    mutating func releaseAll(ofSession session: UInt64) { locks.removeAll { $0.owner.session == session } }
}
