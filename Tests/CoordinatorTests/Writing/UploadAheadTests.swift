import Coordination
import Platform
import SystemPackage
import Testing
import UnderStores

@testable import BlockCaching
@testable import Coordinator

@Suite struct UploadAheadTests {
    private static let part = StagingBench.part

    @Test func aLargeFileIsUploadedWhileItIsWritten() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(300_000))
        try await bench.grow(file, to: 400_000)
        #expect(bench.faults.calls.count(.uploadPart) == 4 && bench.object("a") == nil)
        #expect(bench.service.pending.first?.uploadedBytes == 4 * 65_536)
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == (try bench.contents(of: file)))
        #expect(bench.faults.calls.count(.uploadPart) == 6 && bench.uploads == 0)
    }

    @Test func aPartRewrittenAfterItWasUploadedIsUploadedAgain() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(300_000))
        try await bench.grow(file, to: 400_000)
        try bench.write([1, 2, 3], to: file, at: 100_000)
        try await bench.service.commit(file, .close)
        let bytes = try bench.contents(of: file)
        #expect(bench.object("a") == bytes && Array(bytes[100_000..<100_003]) == [1, 2, 3])
        #expect(bench.faults.calls.count(.uploadPart) == 7)
    }

    /// Formats that end their pages in a CRC32C give all pages the same CRC32C.
    @Test func aPartRewrittenWithBytesOfTheSameCRC32CIsUploadedAgain() async throws {
        func page(_ seed: UInt64) -> [UInt8] {
            let data = pattern(Self.part - 4, seed: seed)
            return data + withUnsafeBytes(of: data.withUnsafeBytes { CRC32C.of($0) }.littleEndian) { Array($0) }
        }
        let (old, new) = (page(1), page(2))
        #expect(old.withUnsafeBytes { CRC32C.of($0) } == new.withUnsafeBytes { CRC32C.of($0) } && old != new)
        let bench = try StagingBench()
        let file = try await bench.written("a", old + pattern(300_000))
        try await bench.grow(file, to: 500_000)
        #expect(bench.faults.calls.count(.uploadPart) >= 4)
        try bench.write(new, to: file)
        try await bench.service.commit(file, .close)
        #expect(bench.object("a")?.prefix(Self.part) == new[...])
    }

    @Test func smallFilesAndFilesOfHolesAreNotUploadedAhead() async throws {
        let bench = try StagingBench()
        let small = try await bench.written("small", pattern(1000))
        let sparse = try await bench.service.create(bench.target("sparse"))
        try sparse.descriptor().resize(to: 400_000)
        await bench.uploadAhead(sparse)
        try sparse.descriptor().resize(to: 800_000)
        await bench.uploadAhead(sparse)
        #expect(bench.faults.calls.all.isEmpty)
        try await bench.service.commit(small, .close)
        try await bench.service.commit(sparse, .close)
        #expect(bench.object("sparse") == [UInt8](repeating: 0, count: 800_000))
    }

    @Test func aStoreThatFailsAheadOfTheCommitIsNoErrorOfTheWriter() async throws {
        let bench = try StagingBench()
        bench.faults.add(.init(.uploadPart, calls: 1...6, .fail(StoreError(.unavailable, "down"))))
        let file = try await bench.written("a", pattern(300_000))
        try await bench.grow(file, to: 400_000)
        bench.faults.heal()
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == (try bench.contents(of: file)) && bench.events.all == ["committed a"])
    }

    @Test func aFileCutShortAfterItsUploadBeganIsPutAsAWhole() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(300_000))
        try await bench.grow(file, to: 400_000)
        try file.descriptor().resize(to: 10)
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == Array(pattern(10)) && bench.faults.calls.count(.put) == 1)
        await bench.abortsEnd()
        #expect(bench.uploads == 0)
    }

    @Test func unchangedPartsOfALargeObjectAreCopiedByTheStore() async throws {
        let bench = try StagingBench()
        var bytes = pattern(1_000_000)
        bench.memory.put("a", bytes)
        let file = try await bench.opened("a")
        try bench.write([1], to: file, at: 300_000)
        bytes[300_000] = 1
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == bytes)
        #expect(bench.faults.calls.count(.uploadPart) == 1)
        // Appending to what was committed copies what is there as well.
        let copies = bench.faults.calls.count(.copyPart)
        try bench.write(pattern(100_000, seed: 2), to: file, at: 1_000_000)
        try await bench.service.commit(file, .synchronize)
        #expect(bench.object("a") == bytes + pattern(100_000, seed: 2))
        #expect(bench.faults.calls.count(.copyPart) > copies && bench.faults.calls.count(.uploadPart) == 3)
    }

    @Test func partsAreNotCopiedFromAVersionThatIsNotTheOneTheyWereSeenIn() async throws {
        let bench = try StagingBench()
        let old = pattern(600_000)
        let file = try await bench.written("a", old)
        try await bench.service.commit(file, .close)
        // The next content is the object, but nobody hears of it; then some of it is taken back.
        try bench.write(pattern(600_000, seed: 2), to: file)
        bench.faults.add(.init(.completeUpload, calls: 1...1, .lose(StoreError(.unavailable, "no answer"))))
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        try bench.write(old, to: file)
        try bench.write([1], to: file, at: 300_000)
        try await bench.service.commit(file, .close)
        let bytes = try bench.contents(of: file)
        let isRight = bench.object("a") == bytes
        #expect(isRight && bench.service.conflicts.isEmpty)
    }

    @Test func aStoreThatCannotCopyPartsGetsThemAll() async throws {
        let bench = try StagingBench()
        var bytes = pattern(600_000)
        bench.memory.put("a", bytes)
        bench.faults.add(.init(.copyPart, .fail(StoreError(.unsupported, "no copies here"))))
        let file = try await bench.opened("a")
        try bench.write([1], to: file)
        bytes[0] = 1
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == bytes)
    }

    // MARK: The layout of parts

    @Test func tenThousandPartsHoldTheLargestObjectAndNoneIsTooLarge() {
        let layout = UploadPartLayout()
        #expect(layout.offset(of: 10_001) >= 5 << 40)
        #expect(layout.size(of: 10_000) <= 5 << 30)
        #expect(layout.size(of: 1) == 16 << 20 && layout.size(of: 1001) == 32 << 20)
    }

    @Test func partsFollowEachOtherWithoutGaps() {
        var layout = UploadPartLayout()
        layout.first = 64
        layout.doubling = 3
        layout.largest = 512
        for size in [0, 1, 63, 64, 65, 191, 192, 193, 5000, 100_000] as [UInt64] {
            let ranges = layout.ranges(of: size)
            #expect(ranges.first?.lowerBound == 0 && ranges.last?.upperBound == size)
            for (index, range) in ranges.enumerated() {
                #expect(range.lowerBound == layout.offset(of: index + 1))
                #expect(index == ranges.count - 1 || range.count == Int(layout.size(of: index + 1)))
            }
        }
    }

    @Test func contentReadInAnyPiecesHasTheSamePrint() {
        var layout = UploadPartLayout()
        layout.first = 100
        layout.doubling = 2
        let bytes = pattern(5000)
        func print(_ step: Int) -> [Fingerprint] {
            var reader = ContentReader(layout)
            var offset = 0
            while offset < bytes.count {
                let end = min(offset + step, bytes.count)
                bytes[offset..<end].withUnsafeBytes { reader.update($0) }
                offset = end
            }
            return reader.fingerprints
        }
        #expect(print(1) == print(5000) && print(100) == print(5000) && print(333) == print(5000))
        #expect(print(5000).map(\.length) == layout.ranges(of: 5000).map { UInt64($0.count) })
        #expect(ContentReader(layout).fingerprints == [Fingerprint()])
    }

    // MARK: MD5

    @Test(arguments: [1, 2, 3, 8, 9, 20])
    func partsAreReadSideBySideForAStoreThatWantsTheirMD5(parts: Int) async throws {
        let bench = try StagingBench()
        bench.wantMD5()
        // The last part is a short one.
        let bytes = pattern(parts * StagingBench.part + 1234)
        let file = try await bench.written("a", bytes)
        _ = try await bench.service.commit(file, .close)
        #expect(bench.object("a") == bytes && bench.service.conflicts.isEmpty)
        // Of different sizes from the fifth on.
        let count = bench.service.configuration.parts.ranges(of: UInt64(bytes.count)).count
        #expect(bench.bodiesWithMD5 == count && bench.faults.calls.count(.uploadPart) == count)
        await bench.service.release(file)
        await bench.settle()
        // What was read is what the cache has: its checksums are looked at here.
        #expect(bench.stagingFiles.isEmpty)
    }

    @Test func aSmallFileIsReadOnceWithItsMD5() async throws {
        let bench = try StagingBench()
        bench.wantMD5()
        let file = try await bench.written("a", pattern(20_000))
        _ = try await bench.service.commit(file, .close)
        #expect(bench.object("a") == pattern(20_000) && bench.bodiesWithMD5 == 1)
    }

    @Test func whatIsUploadedAheadWithItsMD5AndChangedAfterwardsIsSentAgain() async throws {
        let bench = try StagingBench()
        bench.wantMD5()
        let file = try await bench.written("a", pattern(3 * StagingBench.part))
        try await bench.grow(file, to: 12 * StagingBench.part)
        let ahead = bench.faults.calls.count(.uploadPart)
        #expect(ahead > 0)
        try bench.write(pattern(100, seed: 7), to: file, at: UInt64(StagingBench.part + 5))
        _ = try await bench.service.commit(file, .close)
        #expect(bench.object("a") == (try bench.contents(of: file)))
        #expect(bench.bodiesWithMD5 > 0)
    }
}
