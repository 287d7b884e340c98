import Coordination
import Glibc
import Platform
import SystemPackage
import Testing
import UnderStores

@testable import BlockCaching
@testable import Coordinator

@Suite struct StagedCommitTests {
    private static let part = StagingBench.part

    @Test func aClosedFileIsAnObjectAndAFileOfTheCache() async throws {
        let bench = try StagingBench()
        let bytes = pattern(50_000)
        let file = try await bench.written("a", bytes)
        let attributes = try #require(try await bench.service.commit(file, .close))
        #expect(bench.object("a") == bytes)
        let version = try #require(attributes.version)
        #expect(attributes.size == 50_000 && file.base == .version(version))
        await bench.service.release(file)
        #expect(bench.stagingFiles.isEmpty && bench.service.files.isEmpty)
        #expect(try bench.journal.stagedRecords().isEmpty)
        #expect(bench.events.all == ["committed a", "finished a"])
        let id = CachedObjectID(
            store: bench.faults.identity.text, key: "a", version: version.bytes, size: 50_000)
        #expect(bench.cache.presence(of: id).isComplete)
        let object = bench.cache.object(id, source: NoSource())
        let loan = try #require(try object.passthroughLoan())
        var read = [UInt8](repeating: 0, count: 50_000)
        let count = try read.withUnsafeMutableBytes { try loan.data.read(into: $0, at: 0) }
        #expect(count == 50_000 && read == bytes)
        #expect(bench.faults.calls.count(.read) == 0 && bench.faults.calls.count(.put) == 1)
    }

    @Test func whatIsWrittenThroughIsNotKept() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(9000), type: .through)
        let attributes = try #require(try await bench.service.commit(file, .close))
        await bench.service.release(file)
        let id = CachedObjectID(
            store: bench.faults.identity.text, key: "a", version: try #require(attributes.version).bytes, size: 9000)
        #expect(bench.cache.presence(of: id).bytes == 0)
        #expect(bench.stagingFiles.isEmpty && bench.cache.statistics().tiers[0].used == 0)
    }

    @Test(arguments: [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 262_144, 262_145, 393_217, 900_001])
    func everySizeAroundTheBoundsOfBlocksAndPartsIsCommittedWhole(size: Int) async throws {
        let bench = try StagingBench()
        let bytes = pattern(size, seed: UInt64(size) + 1)
        let file = try await bench.written("dir/name", bytes)
        #expect(try await bench.service.commit(file, .close)?.size == UInt64(size))
        #expect(bench.object("dir/name") == bytes)
        #expect(bench.faults.calls.count(.put) == (size <= Self.part ? 1 : 0))
        #expect(bench.uploads == 0)
        await bench.service.release(file)
        #expect(bench.stagingFiles.isEmpty)
    }

    @Test func aFileThatWasOnlyOpenedSendsNothing() async throws {
        let bench = try StagingBench()
        let bytes = pattern(300_000)
        bench.memory.put("a", bytes)
        let file = try await bench.opened("a")
        #expect(try bench.contents(of: file) == bytes)
        #expect(try await bench.service.commit(file, .close) == nil)
        #expect(try await bench.service.commit(file, .synchronize) == nil)
        await bench.service.release(file)
        let sent = bench.faults.calls.all.filter { $0.operation != .read }
        #expect(sent.isEmpty && bench.stagingFiles.isEmpty)
    }

    @Test func bytesChangedInTheMiddleAndBehindTheEndReachTheObject() async throws {
        let bench = try StagingBench()
        var bytes = pattern(200_000)
        bench.memory.put("a", bytes)
        let file = try await bench.opened("a")
        try bench.write([1, 2, 3], to: file, at: 70_000)
        try bench.write([4, 5], to: file, at: 250_000)
        bytes.replaceSubrange(70_000..<70_003, with: [1, 2, 3])
        bytes += [UInt8](repeating: 0, count: 50_000) + [4, 5]
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == bytes)
    }

    @Test func whatIsCutOffAndGrownAgainOrPunchedReadsAsZeros() async throws {
        let bench = try StagingBench()
        var bytes = pattern(200_000)
        let file = try await bench.written("a", bytes)
        try await bench.service.commit(file, .synchronize)
        let descriptor = try file.descriptor()
        try descriptor.resize(to: 10_000)
        try await bench.service.commit(file, .synchronize)
        #expect(bench.object("a") == Array(bytes[..<10_000]))
        try descriptor.resize(to: 150_000)
        try descriptor.punchHole(at: 4096, length: 4096)
        bytes = Array(bytes[..<10_000]) + [UInt8](repeating: 0, count: 140_000)
        bytes.replaceSubrange(4096..<8192, with: [UInt8](repeating: 0, count: 4096))
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == bytes)
        await bench.service.release(file)
        #expect(bench.stagingFiles.isEmpty && bench.uploads == 0)
    }

    @Test func asManyClosesAsComeAtOnceShareACommit() async throws {
        let bench = try StagingBench()
        let gate = FaultGate()
        bench.faults.add(.init(.put, calls: 1...1, .hold(gate)))
        let file = try await bench.written("a", pattern(100))
        async let first = bench.service.commit(file, .close)
        await gate.waitForArrivals(1)
        async let second = bench.service.commit(file, .close)
        async let third = bench.service.commit(file, .close)
        gate.open()
        let sizes = try await [first?.size, second?.size, third?.size]
        #expect(sizes == [100, 100, 100] && bench.faults.calls.count(.put) == 1)
    }

    @Test func aCloseThatComesWhileAnOlderContentIsSentSendsItsOwn() async throws {
        let bench = try StagingBench()
        let gate = FaultGate()
        let file = try await bench.written("a", pattern(100))
        let (service, faults) = (bench.service, bench.faults)
        // The first content has been read and is on its way when the second comes.
        faults.add(.init(.put, calls: 1...1, .lose(StoreError(.unavailable, "slow"))))
        await expectErrno(.ioError) { try await service.commit(file, .close) }
        faults.add(.init(.put, calls: 1...1, .hold(gate)))
        async let first = service.commit(file, .close)
        await gate.waitForArrivals(1)
        try bench.write(pattern(100, seed: 2), to: file)
        async let second = service.commit(file, .close)
        gate.open()
        _ = try await (first, second)
        #expect(bench.object("a") == pattern(100, seed: 2))
    }

    @Test func aFileThatChangesWhileItIsSentIsSentAgain() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(1000))
        let descriptor = try file.descriptor()
        bench.faults.add(
            .init(
                .put, calls: 1...1,
                .perform {
                    try? [UInt8(9)].withUnsafeBytes { try descriptor.write($0, at: 500) }
                }))
        try await bench.service.commit(file, .close)
        var expected = pattern(1000)
        expected[500] = 9
        #expect(bench.object("a") == expected && bench.faults.calls.count(.put) == 2)
    }

    @Test func storesThroughAMappingAfterTheLastCommitAreFoundByFsyncAndRelease() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(8192))
        let mapping = try MappedRegion(try file.descriptor(), count: 8192, writable: true)
        mapping.base.storeBytes(of: 1, as: UInt8.self)
        try await bench.service.commit(file, .close)
        mapping.base.storeBytes(of: 2, as: UInt8.self)  // the page is writable already: no time moves
        try await bench.service.commit(file, .synchronize)
        #expect(bench.object("a")?.first == 2)
        mapping.base.storeBytes(of: 3, as: UInt8.self)
        await bench.service.release(file)
        await bench.settle()  // where the kernel has written the page back meanwhile, the times tell, and nobody waits
        #expect(bench.object("a")?.first == 3)
    }

    @Test func storesThroughAMappingAreFoundAlsoByTheCoordinatorThatComesAfterAKill() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(8192))
        let mapping = try MappedRegion(try file.descriptor(), count: 8192, writable: true)
        mapping.base.storeBytes(of: 1, as: UInt8.self)
        try await bench.service.commit(file, .close)
        try await bench.restart()
        mapping.base.storeBytes(of: 2, as: UInt8.self)
        _ = await bench.service.recover(for: bench.faults)
        let claimed = try #require(bench.service.claim(file.number))
        try await bench.service.commit(claimed, .synchronize)
        #expect(bench.object("a")?.first == 2 && bench.service.conflicts.isEmpty)
    }

    @Test func theObjectHasTheTimeOfTheLastWriteOrTheOneThatWasSet() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(10))
        try await bench.service.commit(file, .close)
        let written = try file.status().modified
        #expect(try await bench.memory.metadata(of: "a")?.metadata.modified == written)
        var metadata = WrittenMetadata()
        metadata.mode = 0o100600
        metadata.modified = FileTime(seconds: 1_000_000, nanoseconds: 5)
        try await bench.service.setMetadata(file, metadata)
        #expect(try file.status().modified == metadata.modified)
        try await bench.service.commit(file, .close)
        let stored = try #require(try await bench.memory.metadata(of: "a")?.metadata)
        #expect(stored.modified == metadata.modified && stored.mode == 0o100600)
        #expect(bench.faults.calls.count(.put) == 1, "a change of metadata sent the bytes again")
    }

    @Test func metadataSetWhileALargeFileIsUploadedReachesTheObject() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(300_000))
        try await bench.grow(file, to: 400_000)
        #expect(bench.uploads == 1)
        var metadata = WrittenMetadata()
        metadata.mode = 0o100640
        metadata.modified = FileTime(seconds: 2_000_000)
        try await bench.service.setMetadata(file, metadata)
        try await bench.service.commit(file, .close)
        let stored = try #require(try await bench.memory.metadata(of: "a")?.metadata)
        #expect(stored.mode == 0o100640 && stored.modified == FileTime(seconds: 2_000_000))
        #expect(!file.isDirty)
    }

    @Test func aFileRenamedBeforeItsCommitIsCommittedUnderItsNewNameOnly() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("old", pattern(300_000))
        try await bench.grow(file, to: 400_000)
        let bytes = try bench.contents(of: file)
        try await bench.service.holding([file]) { () async throws(CoordinationError) in
            try await bench.service.move(file, to: "new", .init(base: .absent))
        }
        try await bench.service.commit(file, .close)
        #expect(bench.object("old") == nil && bench.object("new") == bytes)
        await bench.abortsEnd()
        #expect(bench.uploads == 0)
    }

    @Test func anUnlinkedFileIsNeverCommittedAndStaysReadable() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(100_000))
        #expect(await bench.service.discard(file) == .absent)
        #expect(try bench.contents(of: file) == pattern(100_000))
        #expect(try await bench.service.commit(file, .close) == nil)
        await bench.service.release(file)
        #expect(bench.object("a") == nil && bench.stagingFiles.isEmpty)
        #expect(try bench.journal.stagedRecords().isEmpty && bench.service.files.isEmpty)
    }

    @Test func anUnlinkWaitsForTheCommitUnderWayAndSaysWhatTheStoreHas() async throws {
        let bench = try StagingBench()
        let gate = FaultGate()
        bench.faults.add(.init(.put, .hold(gate)))
        let file = try await bench.written("a", pattern(10))
        async let commit = bench.service.commit(file, .close)
        await gate.waitForArrivals(1)
        async let base = bench.service.discard(file)
        gate.open()
        _ = try await commit
        let version = try #require(try await bench.memory.lookup("a")?.version)
        #expect(await base == .version(version))
    }
}

/// A source that must not be asked.
struct NoSource: BlockSource {
    func fetch(_ range: Range<UInt64>, into sink: any BlockSink) async throws {
        Issue.record("the store was asked for \(range)")
        throw Errno.ioError
    }
}
