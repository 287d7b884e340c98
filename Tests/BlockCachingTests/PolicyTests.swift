import BlockMaps
import Testing

@testable import BlockCaching

private func extent(_ number: Int) -> ExtentID {
    ExtentID(
        digest: ObjectDigest(
            high: UInt64(number) &* 0x9E37_79B9_7F4A_7C15, low: UInt64(number) &* 0xD134_2543_DE82_EF95), index: 0)
}

private let block: UInt64 = 128 << 10

@Suite struct PolicyTests {
    @Test func aScanLeavesTheHotSetAlone() {
        var policy = S3FIFOPolicy(capacity: 100 * block)
        let replay = { (policy: inout S3FIFOPolicy, number: Int) -> Bool in
            let hit = policy.weight(of: extent(number)) != nil
            if !hit { policy.update(extent(number), weight: block) }
            policy.access(extent(number), range: 0..<block)
            while policy.weight > policy.capacity { _ = policy.evict() }
            return hit
        }
        for _ in 0..<3 { for number in 0..<50 { _ = replay(&policy, number) } }
        for number in 1000..<3000 { _ = replay(&policy, number) }  // one pass over twenty times the cache
        let kept = (0..<50).filter { policy.weight(of: extent($0)) != nil }.count
        #expect(kept >= 45, "the scan flushed the hot set: \(kept) of 50 left")
    }

    @Test func aScanInSmallStepsCountsAsOnePass() {
        var policy = S3FIFOPolicy(capacity: ExtentID.size * 4)
        policy.update(extent(1), weight: ExtentID.size)
        for step in 0..<128 { policy.access(extent(1), range: UInt64(step) * block..<UInt64(step + 1) * block) }
        for number in 2...5 { policy.update(extent(number), weight: ExtentID.size) }
        #expect(policy.evict() == extent(1), "128 reads of one scan made it look hot")
    }

    @Test func aSecondPassKeepsAnExtent() {
        var policy = S3FIFOPolicy(capacity: ExtentID.size * 4)
        for number in 1...5 { policy.update(extent(number), weight: ExtentID.size) }
        for _ in 0..<2 { policy.access(extent(1), range: 0..<ExtentID.size) }
        #expect(policy.evict() == extent(2))
    }

    @Test func aGhostThatComesBackEntersTheMainQueue() {
        var policy = S3FIFOPolicy(capacity: 10 * block)
        for number in 0..<10 { policy.update(extent(number), weight: block) }
        #expect(policy.evict() == extent(0))
        policy.update(extent(0), weight: block)
        for expected in 1..<10 { #expect(policy.evict() == extent(expected)) }
        #expect(policy.evict() == extent(0))
        #expect(policy.evict() == nil)
    }

    @Test func accountsAgreeWithAPlainModelOverRandomOperations() {
        var random = SeededRandom(seed: 11)
        var policy = S3FIFOPolicy(capacity: 1000 * block)
        var model: [Int: UInt64] = [:]
        for step in 0..<20_000 {
            let number = Int.random(in: 0..<400, using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let weight = UInt64.random(in: 0...4096, using: &random) * 4096
                policy.update(extent(number), weight: weight)
                model[number] = weight == 0 ? nil : weight
            case 5..<8: policy.access(extent(number), range: 0..<block)
            case 8:
                guard let victim = policy.evict() else { #expect(model.isEmpty); continue }
                let number = (0..<400).first { extent($0) == victim }
                guard let number, let weight = model.removeValue(forKey: number) else {
                    Issue.record("step \(step): evicted what was not held")
                    return
                }
                if Bool.random(using: &random) {
                    policy.reinstate(victim, weight: weight)
                    model[number] = weight
                }
            default: #expect(policy.weight(of: extent(number)) == model[number])
            }
            #expect(policy.count == model.count)
            #expect(policy.weight == model.values.reduce(0, +))
        }
        while policy.evict() != nil {}
        #expect(policy.count == 0 && policy.weight == 0)
    }

    /// Traces of whole-block accesses: Zipf-distributed reads of a working set four times the cache, mixed with long
    /// scans.
    @Test(arguments: [1, 2, 3]) func hitsMoreThanLRUAndFIFOUnderScans(seed: Int) {
        let trace = Trace.zipfWithScans(
            seed: UInt64(seed), objects: 4000, length: 60_000, scanEvery: 6000, scanLength: 3000)
        let capacity = 1000 * block
        let ours = trace.hitRatio(S3FIFOPolicy(capacity: capacity))
        let lru = trace.hitRatio(RecencyPolicy(capacity: capacity, movesOnAccess: true))
        let fifo = trace.hitRatio(RecencyPolicy(capacity: capacity, movesOnAccess: false))
        #expect(ours > lru + 0.02, "S3-FIFO \(ours), LRU \(lru), FIFO \(fifo)")
        #expect(ours > fifo + 0.05, "S3-FIFO \(ours), LRU \(lru), FIFO \(fifo)")
    }

    @Test(arguments: [1, 2, 3]) func isNotWorseThanLRUWithoutScans(seed: Int) {
        let trace = Trace.zipfWithScans(
            seed: UInt64(seed), objects: 4000, length: 60_000, scanEvery: .max, scanLength: 0)
        let capacity = 1000 * block
        let ours = trace.hitRatio(S3FIFOPolicy(capacity: capacity))
        let lru = trace.hitRatio(RecencyPolicy(capacity: capacity, movesOnAccess: true))
        #expect(ours >= lru - 0.005, "S3-FIFO \(ours), LRU \(lru)")
    }

    @Test func aMillionExtentsTakeLessThanAHundredBytesEach() {
        #expect(MemoryLayout<ExtentTable.Entry>.stride <= 40)
    }
}

/// Extents in the order in which they are read.
struct Trace {
    let accesses: [Int]

    static func zipfWithScans(seed: UInt64, objects: Int, length: Int, scanEvery: Int, scanLength: Int) -> Trace {
        var random = SeededRandom(seed: seed)
        var cumulative: [Double] = []
        var sum = 0.0
        for rank in 1...objects {
            sum += 1 / Double(rank)
            cumulative.append(sum)
        }
        var accesses: [Int] = []
        var nextScan = objects
        for step in 0..<length {
            let drawn = Double.random(in: 0..<sum, using: &random)
            var low = 0
            var high = objects - 1
            while low < high {
                let middle = (low + high) / 2
                if cumulative[middle] > drawn { high = middle } else { low = middle + 1 }
            }
            accesses.append(low)
            if scanEvery < .max, step % scanEvery == scanEvery - 1 {
                accesses += nextScan..<nextScan + scanLength
                nextScan += scanLength
            }
        }
        return Trace(accesses: accesses)
    }

    /// The share of hits among the accesses that are not part of a scan (those could never hit).
    func hitRatio(_ start: some EvictionPolicy) -> Double {
        var policy = start
        var hits = 0
        for number in accesses {
            if policy.weight(of: extent(number)) != nil {
                hits += 1
            } else {
                policy.update(extent(number), weight: block)
            }
            policy.access(extent(number), range: 0..<block)
            while policy.weight > policy.capacity { _ = policy.evict() }
        }
        return Double(hits) / Double(accesses.count)
    }
}

/// The references: least recently used, or first in first out.
struct RecencyPolicy: EvictionPolicy {
    var capacity: UInt64
    private let movesOnAccess: Bool
    private var table = ExtentTable(queues: 1)

    init(capacity: UInt64) { self.init(capacity: capacity, movesOnAccess: true) }
    init(capacity: UInt64, movesOnAccess: Bool) {
        self.capacity = capacity
        self.movesOnAccess = movesOnAccess
    }

    var count: Int { table.count }
    var weight: UInt64 { table.queues[0].weight * 4096 }
    func weight(of extent: ExtentID) -> UInt64? { table.find(extent).map { UInt64(table[$0].weight) * 4096 } }
    mutating func update(_ extent: ExtentID, weight: UInt64) {
        _ = table.insert(extent, weight: UInt16(weight / 4096), queue: 0)
    }
    mutating func access(_ extent: ExtentID, range: Range<UInt64>) {
        if movesOnAccess, let number = table.find(extent) { table.move(number, to: 0) }
    }
    mutating func evict() -> ExtentID? {
        guard table.count > 0 else { return nil }
        let victim = table[table.queues[0].tail].extent
        table.remove(table.queues[0].tail)
        return victim
    }
    mutating func reinstate(_ extent: ExtentID, weight: UInt64) { update(extent, weight: weight) }
}
