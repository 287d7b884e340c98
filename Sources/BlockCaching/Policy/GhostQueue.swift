/// The fingerprints of extents that were evicted lately, oldest forgotten first: 8 bytes each and a set of them.
///
/// Two extents may share a fingerprint; the price is one extent in the wrong queue.
struct GhostQueue: Sendable {
    private var ring: [UInt64] = []
    private var oldest = 0
    private var members: Set<UInt64> = []

    static func fingerprint(_ extent: ExtentID) -> UInt64 {
        extent.digest.high ^ UInt64(extent.index) &* 0x9E37_79B9_7F4A_7C15
    }

    mutating func insert(_ extent: ExtentID, limit: Int) {
        let mark = Self.fingerprint(extent)
        guard members.insert(mark).inserted else { return }
        ring.append(mark)
        while members.count > max(limit, 1), oldest < ring.count {
            members.remove(ring[oldest])  // may be gone already: taken by `take`
            oldest += 1
        }
        if oldest > 1024, oldest * 2 > ring.count {
            ring.removeFirst(oldest)
            oldest = 0
        }
    }

    /// Whether the extent was evicted lately; it is forgotten.
    mutating func take(_ extent: ExtentID) -> Bool { members.remove(Self.fingerprint(extent)) != nil }
}
