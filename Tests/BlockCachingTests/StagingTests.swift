import BlockMaps
import Glibc
import Platform
import SystemPackage
import Testing

@testable import BlockCaching

@Suite struct StagingTests {
    private func checksums(_ bytes: [UInt8], _ blockSize: Int = 16 << 10) -> [UInt32] {
        stride(from: 0, to: bytes.count, by: blockSize).map { start in
            bytes[start..<min(start + blockSize, bytes.count)].withUnsafeBytes { CRC32C.of($0) }
        }
    }

    private func stage(_ bytes: [UInt8], _ number: UInt64, in bench: CacheBench) throws -> StagingFile {
        let file = try bench.cache.makeStagingFile(number)
        try bytes.withUnsafeBytes { try file.descriptor().write($0, at: 0) }
        file.account()
        return file
    }

    @Test(arguments: [1, 16 << 10, 1 << 20, (1 << 20) + 1, 5_000_001])
    func anAdoptedFileIsReadWithoutAskingTheStoreAlsoAfterARestart(size: Int) async throws {
        let directory = TemporaryDirectory()
        let bytes = expectedBytes(3, 0..<UInt64(size))
        let id = objectID("written", size: UInt64(size))
        let source = CountingSource()
        do {
            let bench = try CacheBench(in: directory)
            let file = try stage(bytes, 1, in: bench)
            #expect(bench.cache.adopt(file, as: id, checksums: checksums(bytes)))
            let object = bench.cache.object(id, source: source)
            #expect(object.isComplete && bench.cache.stagingFiles().isEmpty)
            #expect(try await readRange(object, 0..<UInt64(size)) == bytes)
            #expect(bench.cache.statistics().tiers[0].used == (UInt64(size) + 4095) & ~4095)
            #expect(bench.cache.statistics().tiers[0].files == 1 && bench.cache.verify(id) == 0)
            await bench.cache.shutdown()
        }
        let bench = try CacheBench(in: directory)
        let object = bench.cache.object(id, source: source)
        #expect(try await readRange(object, 0..<UInt64(size)) == bytes)
        #expect(source.ranges.isEmpty)
    }

    @Test func aFileThatIsNotWhatTheIdSaysIsNotAdopted() async throws {
        let bench = try CacheBench()
        let bytes = expectedBytes(3, 0..<100_000)
        let file = try stage(bytes, 1, in: bench)
        #expect(!bench.cache.adopt(file, as: objectID("o", size: 99_999), checksums: checksums(bytes)))
        #expect(!bench.cache.adopt(file, as: objectID("o", size: 100_000), checksums: [1]))
        let cached = bench.cache.object(objectID("o", size: 100_000), source: CountingSource())
        _ = try await cached.ensure(0..<1)
        #expect(!bench.cache.adopt(file, as: objectID("o", size: 100_000), checksums: checksums(bytes)))
        #expect(bench.cache.stagingFiles().map(\.number) == [1])
        #expect(bench.cache.statistics().tiers[0].used == file.chargedBytes + 16_384)
    }

    @Test func adoptionWithAWrongChecksumIsFoundAndFetchedAgain() async throws {
        let bench = try CacheBench()
        let bytes = expectedBytes(1, 0..<40_000)
        var sums = checksums(bytes)
        sums[1] ^= 1
        let file = try stage(bytes, 1, in: bench)
        let id = objectID("o", size: 40_000)
        #expect(bench.cache.adopt(file, as: id, checksums: sums))
        #expect(bench.cache.verify(id) == 1)
        let source = CountingSource()
        #expect(try await readRange(bench.cache.object(id, source: source), 0..<40_000) == bytes)
        #expect(source.fetchedBytes == 16_384)
    }

    @Test func adoptedFilesAreEvictedLikeOthersButStagedOnesNever() async throws {
        let bench = try CacheBench(quota: 1 << 20)
        let kept = try stage(expectedBytes(1, 0..<400_000), 1, in: bench)
        for number in 0..<6 as Range<UInt64> {
            let bytes = expectedBytes(number, 0..<300_000)
            let file = try bench.cache.makeStagingFile(10 + number)
            #expect(await file.reserve(300_000))
            try bytes.withUnsafeBytes { try file.descriptor().write($0, at: 0) }
            file.account()
            file.unreserve()
            #expect(bench.cache.adopt(file, as: objectID("o\(number)", size: 300_000), checksums: checksums(bytes)))
        }
        var read = [UInt8](repeating: 0, count: 400_000)
        _ = try read.withUnsafeMutableBytes { try kept.descriptor().read(into: $0, at: 0) }
        #expect(read == expectedBytes(1, 0..<400_000))
        #expect(bench.cache.statistics().tiers[0].evictions > 0)
    }

    @Test func roomThatWasReservedAndNotUsedComesBack() async throws {
        let bench = try CacheBench(quota: 1 << 20)
        let file = try bench.cache.makeStagingFile(1)
        #expect(await file.reserve(1 << 20))
        #expect(await file.reserve(1) == false)
        file.unreserve()
        #expect(await file.reserve(500_000))
        try expectedBytes(1, 0..<500_000).withUnsafeBytes { try file.descriptor().write($0, at: 0) }
        file.account()
        let tier = bench.cache.engine.tiers[0]
        #expect(tier.state.withLock { $0.used } == file.chargedBytes && file.chargedBytes >= 500_000)
        file.unreserve()
        file.remove()
        file.leave()
        #expect(tier.state.withLock { $0.used + $0.reserved } == 0)
    }

    @Test func stagingFilesAndWhatTheySayOfThemselvesSurviveARestart() throws {
        let directory = TemporaryDirectory()
        do {
            let bench = try CacheBench(in: directory)
            let file = try stage(expectedBytes(1, 0..<5000), 7, in: bench)
            try file.describe("path/\u{e9}\nand more")
        }
        let bench = try CacheBench(in: directory)
        let found = bench.cache.stagingFiles()
        #expect(found.map(\.number) == [7])
        #expect(found.first?.description() == "path/\u{e9}\nand more")
        #expect(try found.first?.descriptor().status().size == 5000)
        found.first?.remove()
        #expect(files(under: directory.path + "/ssd/staging").isEmpty)
    }

    @Test func filesAreStagedOnADiskWhereThereIsOne() throws {
        let bench = try CacheBench { configuration in
            let base = configuration.tiers[0].path
            configuration.tiers = [
                TierConfiguration(path: base + "-ram", kind: .ram, quota: 1 << 20),
                TierConfiguration(path: base, kind: .disk, quota: 1 << 20),
            ]
        }
        #expect(!(try bench.cache.makeStagingFile(1)).isVolatile)
        let memory = try CacheBench { $0.tiers[0].kind = .ram }
        #expect(try memory.cache.makeStagingFile(1).isVolatile)
    }

    @Test(arguments: [false, true]) func anObjectIsCopiedWholeWhateverIsCachedOfIt(inspecting: Bool) async throws {
        let bench = try CacheBench()
        let size: UInt64 = 9_000_000
        let source = CountingSource(seed: 4)
        let object = bench.cache.object(objectID("o", size: size), source: source)
        _ = try await object.ensure(5_000_000..<6_000_000)
        for turn in 0..<2 as Range<UInt64> {
            let file = try bench.cache.makeStagingFile(1 + turn)
            let seen = Lock<[UInt8]>([])
            try await object.copy(
                to: try file.descriptor(), inspect: inspecting ? { bytes in seen.withLock { $0 += Array(bytes) } } : nil
            )
            var copy = [UInt8](repeating: 0, count: Int(size))
            let count = try copy.withUnsafeMutableBytes { try file.descriptor().read(into: $0, at: 0) }
            #expect(count == Int(size) && copy == expectedBytes(4, 0..<size))
            #expect(!inspecting || seen.withLock { $0 } == copy)
        }
        #expect(source.fetchedBytes == size, "something was fetched twice")
    }

    @Test func anObjectLargerThanTheCacheIsCopiedPastIt() async throws {
        let bench = try CacheBench(quota: 1 << 20)
        let object = bench.cache.object(objectID("o", size: 3_000_000), source: CountingSource(seed: 2))
        let file = try Descriptor.open(bench.directory.path + "/copy", O_RDWR | O_CREAT)
        try await object.copy(to: file)
        var copy = [UInt8](repeating: 0, count: 3_000_000)
        _ = try copy.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
        #expect(copy == expectedBytes(2, 0..<3_000_000))
    }
}
