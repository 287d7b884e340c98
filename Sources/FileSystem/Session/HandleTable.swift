import Glibc
import Platform
import Synchronization

/// The objects behind the kernel's handles: numbers that mean the same to each process of the session.
///
/// A number is a record's slot and a serial number, so that one that has been released is found no more. The kernel uses a
/// handle only between its open and its release, so that the object of one that it names stays.
package final class HandleTable<Object: AnyObject & Sendable>: @unchecked Sendable {
    /// Two words for each slot: the number, 0 for none, and the retained object. Of the memory only what is used is touched.
    private let words: UnsafeMutablePointer<Atomic<UInt>>
    private let capacity: Int
    private static var slotBits: UInt64 { 20 }

    init(capacity: Int) {
        self.capacity = capacity
        let memory = calloc(2 * capacity, MemoryLayout<UInt>.size)
        precondition(memory != nil, "2 MiB of address space")
        words = memory!.bindMemory(to: Atomic<UInt>.self, capacity: 2 * capacity)
    }

    deinit {
        for object in all() { Unmanaged.passUnretained(object).release() }
        free(words)
    }

    /// The number of a handle that has the record `slot`.
    static func number(_ slot: Int, serial: UInt64) -> UInt64 { serial << slotBits | UInt64(slot) }
    static func slot(of number: UInt64) -> Int { Int(number & (1 << slotBits - 1)) }

    /// The object of a handle, not retained; nil for a number that is no handle's.
    @inline(__always)
    package func find(_ number: UInt64) -> Unmanaged<Object>? {
        let slot = Self.slot(of: number)
        guard slot < capacity, number != 0, words[2 * slot].load(ordering: .acquiring) == UInt(number) else {
            return nil
        }
        return UnsafeRawPointer(bitPattern: words[2 * slot + 1].load(ordering: .relaxed)).map(Unmanaged.fromOpaque)
    }

    func set(_ object: Object, as number: UInt64) {
        let slot = Self.slot(of: number)
        let pointer = UInt(bitPattern: Unmanaged.passRetained(object).toOpaque())
        words[2 * slot + 1].store(pointer, ordering: .relaxed)
        words[2 * slot].store(UInt(number), ordering: .releasing)
    }

    /// The object of a handle, which is none any more; nil when it was none.
    func take(_ number: UInt64) -> Object? {
        let slot = Self.slot(of: number)
        guard slot < capacity, number != 0,
            words[2 * slot].compareExchange(expected: UInt(number), desired: 0, ordering: .acquiringAndReleasing)
                .exchanged,
            let pointer = UnsafeRawPointer(bitPattern: words[2 * slot + 1].load(ordering: .relaxed))
        else { return nil }
        return Unmanaged<Object>.fromOpaque(pointer).takeRetainedValue()
    }

    private func all() -> [Object] {
        (0..<capacity).compactMap { slot in
            guard words[2 * slot].load(ordering: .relaxed) != 0 else { return nil }
            return UnsafeRawPointer(bitPattern: words[2 * slot + 1].load(ordering: .relaxed)).map {
                Unmanaged<Object>.fromOpaque($0).takeUnretainedValue()
            }
        }
    }
}
