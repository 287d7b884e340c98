/// The byte ranges that one owner has locked in one file, as fcntl(2) keeps them: a new lock replaces what it covers.
package struct LockRanges: Hashable, Sendable {
    package enum Kind: Sendable { case shared, exclusive }
    package struct Held: Hashable, Sendable {
        /// `end` is inclusive; the largest number is the end of the file.
        package let start, end: UInt64
        package let kind: Kind
    }

    /// By start; they do not overlap, and neighbours of one kind are one.
    package private(set) var held: [Held] = []

    package init() {}

    package var isEmpty: Bool { held.isEmpty }

    /// Locks `start`…`end`, or unlocks it (nil).
    package mutating func set(_ start: UInt64, _ end: UInt64, _ kind: Kind?) {
        guard start <= end else { return }
        var next: [Held] = []
        for lock in held {
            guard lock.start <= end, lock.end >= start else {
                next.append(lock)
                continue
            }
            if lock.start < start { next.append(Held(start: lock.start, end: start - 1, kind: lock.kind)) }
            if lock.end > end { next.append(Held(start: end + 1, end: lock.end, kind: lock.kind)) }
        }
        if let kind { next.append(Held(start: start, end: end, kind: kind)) }
        next.sort { $0.start < $1.start }
        held = next.reduce(into: []) { merged, lock in
            guard let last = merged.last, last.kind == lock.kind, last.end != .max, last.end + 1 == lock.start else {
                return merged.append(lock)
            }
            merged[merged.count - 1] = Held(start: last.start, end: lock.end, kind: lock.kind)
        }
    }
}
