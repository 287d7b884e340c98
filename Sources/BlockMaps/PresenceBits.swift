import Synchronization

/// The presence bits of a mapped block map: atomic words that one process writes and others read.
struct PresenceBits: @unchecked Sendable {
    let words: UnsafeMutablePointer<Atomic<UInt64>>
    let count: Int

    /// `base` must be aligned to 8 bytes and hold `count` bits for as long as this value is used.
    init(base: UnsafeMutableRawPointer, count: Int) {
        words = base.assumingMemoryBound(to: Atomic<UInt64>.self)
        self.count = count
    }

    @inline(__always)
    func isSet(_ bit: Int) -> Bool { words[bit >> 6].load(ordering: .acquiring) & (1 << UInt64(bit & 63)) != 0 }

    /// The bits of `range` that lie in word `index`.
    @inline(__always)
    private func mask(_ range: Range<Int>, word index: Int) -> UInt64 {
        let low = max(range.lowerBound - index << 6, 0)
        let high = min(range.upperBound - index << 6, 64)
        guard low < high else { return 0 }
        return (UInt64.max >> UInt64(64 - (high - low))) << UInt64(low)
    }

    /// The first bit of `range` that has the value `wanted`, or nil.
    @inline(__always)
    func first(in range: Range<Int>, thatIs wanted: Bool) -> Int? {
        guard !range.isEmpty else { return nil }
        var index = range.lowerBound >> 6
        let last = (range.upperBound - 1) >> 6
        while index <= last {
            let word = words[index].load(ordering: .acquiring)
            let hits = (wanted ? word : ~word) & mask(range, word: index)
            if hits != 0 { return index << 6 + hits.trailingZeroBitCount }
            index += 1
        }
        return nil
    }

    func countSet(in range: Range<Int>) -> Int {
        guard !range.isEmpty else { return 0 }
        return (range.lowerBound >> 6...(range.upperBound - 1) >> 6).reduce(0) {
            $0 + (words[$1].load(ordering: .acquiring) & mask(range, word: $1)).nonzeroBitCount
        }
    }

    /// Returns whether the bit was clear.
    func set(_ bit: Int) -> Bool {
        let flag: UInt64 = 1 << UInt64(bit & 63)
        return words[bit >> 6].bitwiseOr(flag, ordering: .acquiringAndReleasing).oldValue & flag == 0
    }

    /// Returns how many bits were set.
    func clear(_ range: Range<Int>) -> Int {
        guard !range.isEmpty else { return 0 }
        return (range.lowerBound >> 6...(range.upperBound - 1) >> 6).reduce(0) {
            let flags = mask(range, word: $1)
            return $0
                + (words[$1].bitwiseAnd(~flags, ordering: .acquiringAndReleasing).oldValue & flags).nonzeroBitCount
        }
    }
}
