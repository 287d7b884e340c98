/// Where the parts of an upload begin and end: a function of the part's number alone, so that parts can be uploaded before
/// the size of the file is known. Parts grow, so that 10 000 of them hold more than 5 TiB.
package struct UploadPartLayout: Hashable, Sendable {
    /// Bytes of the first parts; what is not longer is uploaded as a whole. A multiple of the cache's block size.
    package var first: UInt64 = 16 << 20
    /// After so many parts the size doubles.
    package var doubling = 1000
    /// Bytes of the largest part: `first` times a power of two.
    package var largest: UInt64 = 2 << 30

    package init() {}

    /// Bytes of the part (1…10 000), unless the file ends in it.
    package func size(of part: Int) -> UInt64 { min(first << UInt64(min((part - 1) / doubling, 20)), largest) }

    /// Where a part starts.
    package func offset(of part: Int) -> UInt64 {
        var offset: UInt64 = 0
        var next = 1
        while next < part {
            let end = min(part, ((next - 1) / doubling + 1) * doubling + 1)
            offset += UInt64(end - next) * size(of: next)
            next = end
        }
        return offset
    }

    /// The bytes of each part of a file of `size` bytes, part 1 first; one empty part for an empty file.
    package func ranges(of size: UInt64) -> [Range<UInt64>] {
        var ranges: [Range<UInt64>] = []
        var start: UInt64 = 0
        while start < size {
            let end = min(size, start + self.size(of: ranges.count + 1))
            ranges.append(start..<end)
            start = end
        }
        return ranges.isEmpty ? [0..<0] : ranges
    }
}
