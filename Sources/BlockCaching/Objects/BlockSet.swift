/// A set of block numbers as bits.
struct BlockSet: Sendable {
    private var words: [UInt64]
    private(set) var count = 0

    /// A set that may hold 0..<`limit`.
    init(limit: Int) { words = Array(repeating: 0, count: (limit + 63) / 64) }

    mutating func insert(_ block: Int) {
        guard !contains(block) else { return }
        words[block >> 6] |= 1 << UInt64(block & 63)
        count += 1
    }

    mutating func remove(_ block: Int) {
        guard contains(block) else { return }
        words[block >> 6] &= ~(1 << UInt64(block & 63))
        count -= 1
    }

    func contains(_ block: Int) -> Bool { words[block >> 6] & (1 << UInt64(block & 63)) != 0 }

    /// The first member of `blocks`, or nil.
    func first(in blocks: Range<Int>) -> Int? {
        guard count > 0 else { return nil }
        var block = blocks.lowerBound
        while block < blocks.upperBound {
            let word = words[block >> 6] >> UInt64(block & 63)
            if word != 0 {
                let found = block + word.trailingZeroBitCount
                return found < blocks.upperBound ? found : nil
            }
            block = (block | 63) + 1
        }
        return nil
    }

    func count(in blocks: Range<Int>) -> Int {
        var found = 0
        var block = first(in: blocks)
        while let member = block {
            found += 1
            block = first(in: member + 1..<max(member + 1, blocks.upperBound))
        }
        return found
    }
}
