import BlockMaps

/// A part of an object version that is evicted as a whole: 16 MiB of it, from a multiple of 16 MiB on.
package struct ExtentID: Hashable, Sendable {
    package static let size: UInt64 = 16 << 20

    package let digest: ObjectDigest
    package let index: UInt32

    package init(digest: ObjectDigest, index: UInt32) {
        self.digest = digest
        self.index = index
    }

    /// The extents that hold some byte of `range`.
    static func indices(of range: Range<UInt64>) -> Range<UInt32> {
        guard !range.isEmpty else { return 0..<0 }
        return UInt32(clamping: range.lowerBound / size)..<UInt32(clamping: (range.upperBound - 1) / size + 1)
    }
}

/// Which extent of a tier goes next. A value without clock, lock or I/O: the caller tells it what happens and carries
/// out what it decides.
package protocol EvictionPolicy: Sendable {
    /// - Parameter capacity: bytes that the tier may hold.
    init(capacity: UInt64)

    var capacity: UInt64 { get set }
    /// Extents held.
    var count: Int { get }
    /// Bytes held.
    var weight: UInt64 { get }

    /// Bytes of one extent, or nil when it is not held.
    func weight(of extent: ExtentID) -> UInt64?

    /// Sets the bytes present of an extent (0…16 MiB), which enters when it was not held and leaves at 0.
    mutating func update(_ extent: ExtentID, weight: UInt64)

    /// Notes that `range` (bytes within the extent) was read. An extent that is not held is ignored.
    mutating func access(_ extent: ExtentID, range: Range<UInt64>)

    /// Removes and returns the extent to evict; nil when none is held.
    mutating func evict() -> ExtentID?

    /// Takes back an extent that `evict` returned and that must stay: as one that was just used.
    mutating func reinstate(_ extent: ExtentID, weight: UInt64)
}
