import Platform

/// Where the bytes of one object version come from when the cache does not have them.
package protocol BlockSource: Sendable {
    /// Delivers exactly `range` (not empty, within the object) to `sink`, ascending, each byte once. May throw any
    /// error, which reaches the readers who wait for the range; bytes delivered before it are kept.
    func fetch(_ range: Range<UInt64>, into sink: any BlockSink) async throws
}

/// Takes the bytes of one fetch.
package protocol BlockSink: Sendable {
    /// Takes the next bytes; `offset` is that of the first one in the object. One thread at a time; may block on the
    /// cache disk. Throws to stop the fetch, which must then throw.
    func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws
}

/// Who waits for a fetch.
package enum FetchUrgency: Sendable {
    /// A reader waits.
    case demand
    /// A reader may come; demands go first.
    case prefetch
}

/// How the bytes that were asked for can be read.
package enum Delivery: Sendable {
    /// They are in the cache file that the object's loans show.
    case cached
    /// No tier could take them: they are in memory.
    case readThrough(ReadThrough)
}

/// Bytes that passed the cache by, in a memfd; they count against the memory budget until this object goes.
package final class ReadThrough: Sendable {
    /// For reading only.
    package let descriptor: Descriptor
    let storage: Descriptor
    /// Where byte 0 of the memfd lies in the object.
    package let offset: UInt64
    /// Bytes in the memfd.
    package let length: Int
    private let budget: MemoryBudget

    init(descriptor: Descriptor, storage: Descriptor, offset: UInt64, length: Int, budget: MemoryBudget) {
        self.descriptor = descriptor
        self.storage = storage
        self.offset = offset
        self.length = length
        self.budget = budget
    }

    deinit { budget.release(length) }

    var range: Range<UInt64> { offset..<offset + UInt64(length) }
}
