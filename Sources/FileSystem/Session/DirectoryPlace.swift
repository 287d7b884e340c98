import Coordination
import Platform
import Synchronization

/// Where an open directory notes in the session's memory what its reader was shown last.
struct DirectoryPlace {
    struct Shown: Equatable {
        let number: UInt64
        let name: ByteString
        /// Of the listing.
        var order = WireList.Order.any
    }

    private let memory: SessionMemory
    private let slot: Int

    init(_ memory: SessionMemory, _ slot: Int) {
        self.memory = memory
        self.slot = slot
    }

    private func body(_ index: Int) -> UnsafeMutableRawPointer {
        DirectoryRecord.place(index, of: memory.directories.body(slot))
    }

    private func newest() -> (index: Int, place: DirectoryRecord.Place) {
        let places = (0...1).map { body($0).load(as: DirectoryRecord.Place.self) }
        return places[1].sequence > places[0].sequence ? (1, places[1]) : (0, places[0])
    }

    /// The other place is written, its sequence number last, so that one is whole at any time.
    func note(_ number: UInt64, _ name: ByteString, _ order: WireList.Order = .any) {
        let (index, newest) = newest()
        let target = body(1 - index)
        let sequence = target.assumingMemoryBound(to: Atomic<UInt64>.self)
        sequence.pointee.store(0, ordering: .sequentiallyConsistent)
        name.withCString { text in
            (target + MemoryLayout<DirectoryRecord.Place>.size).copyMemory(from: text, byteCount: min(name.count, 255))
        }
        target.storeBytes(
            of: DirectoryRecord.Place(
                sequence: 0, number: number, length: UInt32(min(name.count, 255)),
                order: UInt32(order.rawValue)),
            as: DirectoryRecord.Place.self)
        sequence.pointee.store(newest.sequence + 1, ordering: .releasing)
    }

    func last() -> Shown? {
        let (index, place) = newest()
        guard place.sequence > 0, place.length <= 255 else { return nil }
        let bytes = UnsafeRawBufferPointer(
            start: body(index) + MemoryLayout<DirectoryRecord.Place>.size, count: Int(place.length))
        return Shown(
            number: place.number, name: ByteString(bytes),
            order: WireList.Order(rawValue: Int(place.order)) ?? .any)
    }
}
