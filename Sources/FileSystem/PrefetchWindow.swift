/// Decides what to fetch ahead of the readers of one handle. A pure value: reads in, ranges out.
///
/// Each sequential stream (a few per handle, because programs read several columns of one file in turns) has a window
/// ahead of it. The window grows while the reader still catches up with what was fetched, and a seek shrinks it.
package struct PrefetchWindow: Sendable {
    /// One FUSE read at its largest: a scan then always has its next read in flight, and a wrong guess costs 8 blocks.
    package static let initialWindow: UInt64 = 1 << 20
    /// Enough to keep 1 GB/s busy over 120 ms of latency. It is room in the cache, not memory.
    package static let maximumWindow: UInt64 = 128 << 20
    /// A window is fetched in parts of an eighth, so that a large one runs over several connections, …
    package static let partsPerWindow: UInt64 = 8
    /// … of at least a first window and at most what a store serves well in one request: some have so much work with
    /// each that parts of half the size take a third more of their time (docs/performance.md).
    package static let maximumPart: UInt64 = 16 << 20
    /// An object up to this size is fetched whole at its first miss: one request costs less than two, and a reader of
    /// small files nearly always reads them to the end.
    package static let wholeObject: UInt64 = 1 << 20
    package static let maximumStreams = 4

    /// Reads from this size on come from the kernel's readahead, which may deliver them out of order.
    private static let bulkRead: UInt64 = 64 << 10
    private static let bulkSlack: UInt64 = 1 << 20
    /// A small read may skip this far ahead and still belong to its stream.
    private static let smallSlack: UInt64 = 128 << 10

    struct Stream: Sendable {
        /// Where the stream began.
        let start: UInt64
        /// The end of what was read.
        var position: UInt64
        /// The end of what was asked for; at least `position`.
        var ahead: UInt64
        var window: UInt64
        var reads = 1
        var lastUse: UInt64

        func contains(_ offset: UInt64, _ count: UInt64) -> Bool {
            let isBulk = count >= PrefetchWindow.bulkRead
            let back = isBulk ? PrefetchWindow.bulkSlack : 0
            let forward = isBulk ? PrefetchWindow.bulkSlack : PrefetchWindow.smallSlack
            return offset + back >= position && offset <= ahead + forward
        }
    }

    private(set) var streams: [Stream] = []
    private var clock: UInt64 = 0
    private var isWholeAsked = false

    package init() {}

    /// Notes a read and returns what to fetch ahead because of it, in order, each range aligned to blocks.
    ///
    /// - Parameters:
    ///   - missed: some byte of the read was absent: the reader has caught up.
    ///   - size: of the file.
    ///   - block: the unit of presence in bytes, a power of two.
    package mutating func note(
        offset: UInt64, count: Int, missed: Bool, size: UInt64, block: UInt64 = 128 << 10
    ) -> [Range<UInt64>] {
        guard count > 0, offset < size else { return [] }
        if size <= Self.wholeObject {
            guard missed, !isWholeAsked else { return [] }
            isWholeAsked = true
            return [0..<size]
        }
        clock += 1
        let count = UInt64(count)
        let end = min(offset + count, size)
        guard let index = streams.firstIndex(where: { $0.contains(offset, count) }) else {
            seek(to: offset, end)
            return []
        }
        var stream = streams[index]
        stream.reads += 1
        stream.lastUse = clock
        let caughtUp = missed && stream.ahead > stream.position
        stream.position = max(stream.position, end)
        stream.ahead = max(stream.ahead, min((stream.position + block - 1) / block * block, size))
        if caughtUp {
            // Never more ahead than was read so far: a short run wastes at most as much as it used.
            let earned = max(Self.initialWindow, stream.position - stream.start)
            stream.window = min(stream.window * 2, earned, Self.maximumWindow)
        }
        let ranges = Self.extend(&stream, size: size, block: block)
        streams[index] = stream
        return ranges
    }

    private static func extend(_ stream: inout Stream, size: UInt64, block: UInt64) -> [Range<UInt64>] {
        // Half a window of hysteresis: one message for half a window, not one for each read.
        guard stream.ahead < size, stream.ahead - stream.position <= stream.window / 2 else { return [] }
        let grain = max(stream.window / partsPerWindow, block)
        let target = min((stream.position + stream.window) / grain * grain, size)
        let part = min(max(grain, initialWindow), maximumPart)
        var ranges: [Range<UInt64>] = []
        while stream.ahead < target {
            // Large parts end at multiples of their size: stores keep objects in pieces. None is much shorter.
            var end = part > initialWindow ? (stream.ahead / part + 1) * part : stream.ahead + part
            if end - stream.ahead < part / 2 { end += part }
            if end > target || target - end < part / 2 { end = target }
            ranges.append(stream.ahead..<end)
            stream.ahead = end
        }
        return ranges
    }

    private mutating func seek(to offset: UInt64, _ end: UInt64) {
        if let recent = streams.indices.max(by: { streams[$0].lastUse < streams[$1].lastUse }) {
            streams[recent].window = max(streams[recent].window / 2, Self.initialWindow)
        }
        let stream = Stream(start: offset, position: end, ahead: end, window: Self.initialWindow, lastUse: clock)
        if streams.count < Self.maximumStreams { return streams.append(stream) }
        let oldest = streams.indices.min { streams[$0].lastUse < streams[$1].lastUse } ?? 0
        streams[oldest] = stream
    }

    /// Reads that touch one of these ranges must be noted even when nothing was absent: the reader is in the second
    /// half of what was fetched ahead.
    package func triggers(size: UInt64) -> [Range<UInt64>] {
        streams.compactMap { stream in
            guard stream.reads > 1, stream.ahead < size else { return nil }
            let half = stream.window / 2
            let start = max(stream.position, stream.ahead > half ? stream.ahead - half : 0)
            return start..<max(stream.ahead, start) + Self.bulkSlack
        }
    }
}
