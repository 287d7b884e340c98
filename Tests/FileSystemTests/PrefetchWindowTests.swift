import Testing

@testable import FileSystem

@Suite("The prefetch window")
struct PrefetchWindowTests {
    private let large: UInt64 = 4 << 30
    private let mebibyte: UInt64 = 1 << 20

    /// Reads `count` bytes at a time from `start` on, each a miss until what was fetched ahead covers it.
    private func scan(
        _ window: inout PrefetchWindow, from start: UInt64, reads: Int, count: Int = 128 << 10, missing: Bool = true
    ) -> [Range<UInt64>] {
        (0..<reads).flatMap { index in
            window.note(offset: start + UInt64(index * count), count: count, missed: missing, size: large)
        }
    }

    @Test("leaves random reads alone")
    func random() {
        var window = PrefetchWindow()
        var generator = SplitMix(7)
        for _ in 0..<10_000 {
            let offset = generator.next() % (large - 4096) / 4096 * 4096
            #expect(window.note(offset: offset, count: 4096, missed: true, size: large).isEmpty)
        }
    }

    @Test("starts with 1 MiB at the second read of a scan")
    func start() {
        var window = PrefetchWindow()
        #expect(window.note(offset: 0, count: 131072, missed: true, size: large).isEmpty)
        let ranges = window.note(offset: 131072, count: 131072, missed: true, size: large)
        #expect(ranges == [262144..<(262144 + mebibyte)])
    }

    @Test("doubles up to 128 MiB while the reader catches up, in parts of 16 MiB at last, without gap or overlap")
    func grows() {
        var window = PrefetchWindow()
        let ranges = scan(&window, from: 0, reads: 8000)
        #expect(window.streams[0].window == 128 << 20)
        #expect(window.streams[0].ahead - window.streams[0].position <= 128 << 20)
        var end = ranges[0].lowerBound
        for range in ranges {
            #expect(range.lowerBound == end && range.count <= 24 << 20)
            end = range.upperBound
        }
        #expect(ranges.suffix(20).allSatisfy { $0.lowerBound % (16 << 20) == 0 && $0.count == 16 << 20 })
    }

    @Test("is never further ahead than was read, or 1 MiB")
    func isEarned() {
        var window = PrefetchWindow()
        for index in 0..<400 {
            _ = window.note(offset: UInt64(index) * 131072, count: 131072, missed: true, size: large)
            let read = UInt64(index + 1) * 131072
            #expect(window.streams[0].ahead - read <= max(read, mebibyte) + 131072)
        }
    }

    @Test("stays small while the reader does not catch up")
    func doesNotGrowForSlowReaders() {
        var window = PrefetchWindow()
        _ = scan(&window, from: 0, reads: 2)
        _ = scan(&window, from: 2 * 131072, reads: 1000, missing: false)
        #expect(window.streams[0].window == mebibyte)
    }

    @Test("asks once for half a window, not once for each read")
    func hysteresis() {
        var window = PrefetchWindow()
        _ = scan(&window, from: 0, reads: 8000)
        var messages = 0
        for index in 8000..<12000 {
            let offset = UInt64(index) * 131072
            let isTriggered = window.triggers(size: large).contains { $0.overlaps(offset..<offset + 131072) }
            if isTriggered { messages += window.note(offset: offset, count: 131072, missed: false, size: large).count }
        }
        // 500 MiB in parts of 16 MiB.
        #expect((28...36).contains(messages))
    }

    @Test("follows several streams of one file at once")
    func streams() {
        var window = PrefetchWindow()
        var asked: [UInt64: UInt64] = [:]
        for index in 0..<100 {
            for stream in 0..<3 as Range<UInt64> {
                for range in window.note(
                    offset: stream << 30 + UInt64(index) * 131072, count: 131072, missed: true, size: large)
                {
                    #expect(range.lowerBound >> 30 == stream)
                    asked[stream, default: 0] += UInt64(range.count)
                }
            }
        }
        #expect(asked.count == 3 && asked.values.allSatisfy { $0 >= 8 << 20 })
    }

    @Test("takes reads that the kernel delivers out of order for one stream")
    func outOfOrder() {
        var window = PrefetchWindow()
        var order = Array(0..<64)
        for index in stride(from: 0, to: 62, by: 2) { order.swapAt(index, index + 1) }
        for index in order { _ = window.note(offset: UInt64(index) * 131072, count: 131072, missed: true, size: large) }
        #expect(window.streams.count == 1)
    }

    @Test("shrinks with a seek")
    func seek() {
        var window = PrefetchWindow()
        _ = scan(&window, from: 0, reads: 8000)
        _ = window.note(offset: 3 << 30, count: 4096, missed: true, size: large)
        #expect(window.streams[0].window == 64 << 20)
        #expect(window.streams[1].window == mebibyte)
    }

    @Test("never asks for anything past the end of the file, and stops there")
    func end() {
        var window = PrefetchWindow()
        let size: UInt64 = 5_000_001
        var ranges: [Range<UInt64>] = []
        var offset: UInt64 = 0
        while offset < size {
            ranges += window.note(offset: offset, count: 131072, missed: true, size: size)
            offset += 131072
        }
        #expect(ranges.last?.upperBound == size)
        #expect(window.triggers(size: size).isEmpty)
        #expect(window.note(offset: size, count: 4096, missed: true, size: size).isEmpty)
    }

    @Test("fetches a small object whole, once")
    func small() {
        var window = PrefetchWindow()
        #expect(window.note(offset: 500_000, count: 4096, missed: true, size: 1 << 20) == [0..<1 << 20])
        #expect(window.note(offset: 0, count: 4096, missed: true, size: 1 << 20).isEmpty)
    }

    @Test(
        "turns the touched segments of a file into ranges",
        arguments: [
            (UInt64(0), []), (1, [0..<16]), (0b1011, [0..<32, 48..<64]), (.max, [0..<1020]), (1 << 63, [1008..<1020]),
        ] as [(UInt64, [Range<UInt64>])])
    func segments(_ bits: UInt64, _ expected: [Range<UInt64>]) {
        #expect(SegmentBits.ranges(bits, shift: 4, size: 1020) == expected)
    }
}
