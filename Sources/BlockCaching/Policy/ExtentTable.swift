import BlockMaps

/// The extents of a tier in a compact slab of 40-byte entries, found by an open-addressing table of 4-byte slots and
/// chained into queues by number: one million extents take about 50 MB.
struct ExtentTable: Sendable {
    struct Entry: Sendable {
        var extent: ExtentID
        var previous = ExtentTable.none
        var next = ExtentTable.none
        /// In units of 4 KiB, 0…4096.
        var weight: UInt16 = 0
        /// How far into the extent the current pass of reading has come, in units of 4 KiB.
        var progress: UInt16 = 0
        var frequency: UInt8 = 0
        var queue: UInt8 = 0
    }

    struct Queue: Sendable {
        /// The newest and the oldest entry.
        var head = ExtentTable.none
        var tail = ExtentTable.none
        var count = 0
        /// In units of 4 KiB.
        var weight: UInt64 = 0
    }

    static let none = UInt32.max
    private(set) var entries: [Entry] = []
    private var freeList: [UInt32] = []
    private var slots = [UInt32](repeating: ExtentTable.none, count: 16)
    private(set) var count = 0
    private(set) var queues: [Queue]

    init(queues: Int) { self.queues = Array(repeating: Queue(), count: queues) }

    subscript(number: UInt32) -> Entry { entries[Int(number)] }

    mutating func modify(_ number: UInt32, _ body: (inout Entry) -> Void) {
        let before = entries[Int(number)].weight
        body(&entries[Int(number)])
        let entry = entries[Int(number)]
        queues[Int(entry.queue)].weight += UInt64(entry.weight)
        queues[Int(entry.queue)].weight -= UInt64(before)
    }

    private func home(_ extent: ExtentID) -> Int {
        // Digests are already uniform; the index only has to spread the extents of one object.
        let mixed = (extent.digest.low ^ UInt64(extent.index) &* 0x9E37_79B9_7F4A_7C15)
        return Int(truncatingIfNeeded: mixed ^ mixed >> 32) & (slots.count - 1)
    }

    func find(_ extent: ExtentID) -> UInt32? {
        var slot = home(extent)
        while slots[slot] != Self.none {
            if entries[Int(slots[slot])].extent == extent { return slots[slot] }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    /// Adds an extent that is not held, at the head of `queue`.
    mutating func insert(_ extent: ExtentID, weight: UInt16, queue: Int) -> UInt32 {
        if (count + 1) * 4 > slots.count * 3 { grow() }
        let entry = Entry(extent: extent, weight: weight)
        let number: UInt32
        if let free = freeList.popLast() {
            number = free
            entries[Int(free)] = entry
        } else {
            number = UInt32(entries.count)
            entries.append(entry)
        }
        place(number)
        count += 1
        link(number, queue: queue)
        return number
    }

    mutating func remove(_ number: UInt32) {
        unlink(number)
        var hole = home(entries[Int(number)].extent)
        while slots[hole] != number { hole = (hole + 1) & (slots.count - 1) }
        // Backward shift: move later entries of the run up, so that no tombstones are needed (Knuth, TAOCP 6.4,
        // algorithm R).
        var probe = hole
        slots[hole] = Self.none
        while true {
            probe = (probe + 1) & (slots.count - 1)
            guard slots[probe] != Self.none else { break }
            let wanted = home(entries[Int(slots[probe])].extent)
            if (probe - wanted) & (slots.count - 1) >= (probe - hole) & (slots.count - 1) {
                slots[hole] = slots[probe]
                slots[probe] = Self.none
                hole = probe
            }
        }
        freeList.append(number)
        count -= 1
    }

    mutating func move(_ number: UInt32, to queue: Int) {
        unlink(number)
        link(number, queue: queue)
    }

    private mutating func link(_ number: UInt32, queue: Int) {
        let head = queues[queue].head
        entries[Int(number)].queue = UInt8(queue)
        entries[Int(number)].previous = Self.none
        entries[Int(number)].next = head
        if head == Self.none { queues[queue].tail = number } else { entries[Int(head)].previous = number }
        queues[queue].head = number
        queues[queue].count += 1
        queues[queue].weight += UInt64(entries[Int(number)].weight)
    }

    private mutating func unlink(_ number: UInt32) {
        let entry = entries[Int(number)]
        let queue = Int(entry.queue)
        if entry.previous == Self.none {
            queues[queue].head = entry.next
        } else {
            entries[Int(entry.previous)].next = entry.next
        }
        if entry.next == Self.none {
            queues[queue].tail = entry.previous
        } else {
            entries[Int(entry.next)].previous = entry.previous
        }
        queues[queue].count -= 1
        queues[queue].weight -= UInt64(entry.weight)
    }

    private mutating func place(_ number: UInt32) {
        var slot = home(entries[Int(number)].extent)
        while slots[slot] != Self.none { slot = (slot + 1) & (slots.count - 1) }
        slots[slot] = number
    }

    private mutating func grow() {
        let held = slots.filter { $0 != Self.none }
        slots = [UInt32](repeating: Self.none, count: slots.count * 2)
        for number in held { place(number) }
    }
}
