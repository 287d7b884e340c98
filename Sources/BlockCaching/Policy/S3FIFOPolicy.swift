import BlockMaps

/// S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023) over extents weighted by bytes.
///
/// New extents enter a small queue of a tenth of the capacity. Those read again before they reach its end move to the
/// main queue; the others leave and are remembered as ghosts, and a ghost that comes back enters the main queue. So one
/// scan of a large file flows through the small queue and leaves the hot set alone.
package struct S3FIFOPolicy: EvictionPolicy {
    private static let small = 0
    private static let main = 1
    private static let unit: UInt64 = 4096
    private static let maximumFrequency: UInt8 = 3

    package var capacity: UInt64
    private var table = ExtentTable(queues: 2)
    private var ghosts = GhostQueue()

    package init(capacity: UInt64) { self.capacity = capacity }

    package var count: Int { table.count }
    package var weight: UInt64 { (table.queues[Self.small].weight + table.queues[Self.main].weight) * Self.unit }

    package func weight(of extent: ExtentID) -> UInt64? {
        table.find(extent).map { UInt64(table[$0].weight) * Self.unit }
    }

    private static func units(_ bytes: UInt64) -> UInt16 { UInt16(min((bytes + unit - 1) / unit, 4096)) }

    package mutating func update(_ extent: ExtentID, weight: UInt64) {
        if let number = table.find(extent) {
            if weight == 0 { table.remove(number) } else { table.modify(number) { $0.weight = Self.units(weight) } }
        } else if weight > 0 {
            let queue = ghosts.take(extent) ? Self.main : Self.small
            _ = table.insert(extent, weight: Self.units(weight), queue: queue)
        }
    }

    /// A pass through the extent counts once, however many reads it takes: only a read that starts before the place
    /// which the current pass has reached is a new use. Otherwise a scan in small steps would look hot.
    package mutating func access(_ extent: ExtentID, range: Range<UInt64>) {
        guard let number = table.find(extent), !range.isEmpty else { return }
        let start = UInt16(min(range.lowerBound / Self.unit, 4095))
        let end = Self.units(range.upperBound)
        table.modify(number) { entry in
            if start < entry.progress, entry.frequency < Self.maximumFrequency { entry.frequency += 1 }
            entry.progress = end
        }
    }

    package mutating func evict() -> ExtentID? {
        while table.count > 0 {
            let small = table.queues[Self.small]
            let main = table.queues[Self.main]
            if small.count > 0, main.count == 0 || small.weight * Self.unit * 10 >= capacity {
                if let victim = evictFromSmall(small.tail) { return victim }
            } else if let victim = evictFromMain(main.tail) {
                return victim
            }
        }
        return nil
    }

    private mutating func evictFromSmall(_ number: UInt32) -> ExtentID? {
        let entry = table[number]
        guard entry.frequency == 0 else {
            table.modify(number) { $0.frequency = 0 }
            table.move(number, to: Self.main)
            return nil
        }
        table.remove(number)
        ghosts.insert(entry.extent, limit: max(table.count, 64))
        return entry.extent
    }

    private mutating func evictFromMain(_ number: UInt32) -> ExtentID? {
        let entry = table[number]
        guard entry.frequency == 0 else {
            table.modify(number) { $0.frequency -= 1 }
            table.move(number, to: Self.main)
            return nil
        }
        table.remove(number)
        return entry.extent
    }

    package mutating func reinstate(_ extent: ExtentID, weight: UInt64) {
        guard weight > 0 else { return }
        guard table.find(extent) == nil else { return update(extent, weight: weight) }
        _ = ghosts.take(extent)
        _ = table.insert(extent, weight: Self.units(weight), queue: Self.main)
    }
}
