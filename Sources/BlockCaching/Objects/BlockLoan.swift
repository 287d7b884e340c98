import Platform
import Synchronization

/// The right to read a cache file; it ends with `close()` or with the object.
package final class BlockLoan: Sendable {
    /// The cache file, for reading only.
    package let data: Descriptor
    /// The block map that proves each read (`BlockMapReader`); nil for a file that is complete and stays so while it is
    /// lent.
    package let map: Descriptor?
    /// Bytes.
    package let size: UInt64
    private let entry: CacheEntry
    private let isOpen = Atomic(true)

    init(data: Descriptor, map: Descriptor?, entry: CacheEntry) {
        self.data = data
        self.map = map
        self.entry = entry
        size = entry.id.size
        entry.engine.retain(entry)
    }

    deinit { close() }

    /// Whether every byte may be read without asking a map.
    package var isComplete: Bool { map == nil }

    /// Ends the loan; the descriptors stay open until this object goes. Any thread, more than once.
    package func close() {
        guard isOpen.exchange(false, ordering: .acquiringAndReleasing) else { return }
        entry.endLoan(isWhole: map == nil)
        entry.engine.release(entry)
    }
}
