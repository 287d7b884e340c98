import Platform
import Synchronization

/// Records of one size in memory that outlives this process, which may be killed at any instruction.
///
/// Byte 0…7 of a record is its state: 0 is free. The rest is written before the state, and read after it.
final class RecordTable: @unchecked Sendable {
    private let base: UnsafeMutableRawPointer
    /// How many records were ever used: those behind have never been touched, and cost no memory.
    private let used: UnsafeMutablePointer<Atomic<UInt64>>
    private let size, capacity: Int
    private let free: Lock<[Int]>

    /// - Parameter mark: 8 bytes of the same memory.
    init(at base: UnsafeMutableRawPointer, mark: UnsafeMutableRawPointer, size: Int, capacity: Int) {
        self.base = base
        self.size = size
        self.capacity = capacity
        used = mark.assumingMemoryBound(to: Atomic<UInt64>.self)
        let count = min(Int(clamping: used.pointee.load(ordering: .acquiring)), capacity)
        free = Lock((0..<count).filter { Self.state(base + $0 * size).pointee.load(ordering: .acquiring) == 0 })
    }

    private static func state(_ record: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Atomic<UInt64>> {
        record.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// A record to fill, which is nobody else's; nil when there is none.
    func take() -> Int? {
        free.withLock { free in
            if let slot = free.popLast() { return slot }
            let count = Int(clamping: used.pointee.load(ordering: .relaxed))
            guard count < capacity else { return nil }
            used.pointee.store(UInt64(count + 1), ordering: .releasing)
            return count
        }
    }

    /// The memory of a record behind its state.
    @inline(__always)
    func body(_ slot: Int) -> UnsafeMutableRawPointer { base + slot * size + 8 }

    /// What was written to the record counts.
    func publish(_ slot: Int) { Self.state(base + slot * size).pointee.store(1, ordering: .releasing) }

    /// The record counts no more, and is anybody's.
    func release(_ slot: Int) {
        Self.state(base + slot * size).pointee.store(0, ordering: .releasing)
        free.withLock { $0.append(slot) }
    }

    /// The records that count, in no order that means anything.
    func all() -> [Int] {
        let count = min(Int(clamping: used.pointee.load(ordering: .acquiring)), capacity)
        return (0..<count).filter { Self.state(base + $0 * size).pointee.load(ordering: .acquiring) != 0 }
    }
}
