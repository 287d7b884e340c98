import Coordination
import Platform
import SystemPackage
import Testing

@testable import BlockCaching
@testable import Coordinator
@testable import UnderStores

@Suite struct StagedFailureTests {
    private static let down = StoreError(.unavailable, "the store is down")

    @Test(arguments: [StoreCallLog.Operation.put, .beginUpload, .uploadPart, .completeUpload])
    func aStoreThatFailsAnyCallLeavesTheDataPendingUntilItIsBack(operation: StoreCallLog.Operation) async throws {
        let bench = try StagingBench()
        let bytes = pattern(operation == .put ? 1000 : 300_000)
        bench.faults.add(.init(operation, .fail(Self.down)))
        let file = try await bench.written("a", bytes)
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        let pending = try #require(bench.service.pending.first)
        #expect(pending.state == .failed && pending.lastError == Self.down.message)
        #expect(pending.bytes == UInt64(bytes.count) && bench.object("a") == nil)
        await bench.service.release(file)
        await bench.settle()
        bench.faults.heal()
        bench.clock.endPauses()
        await bench.settle()
        #expect(bench.object("a") == bytes && bench.uploads == 0)
        #expect(bench.service.pending.isEmpty && bench.stagingFiles.isEmpty)
    }

    @Test(arguments: [StoreCallLog.Operation.put, .beginUpload, .uploadPart, .completeUpload])
    func anAnswerThatIsLostIsNoConflictWhenItIsTriedAgain(operation: StoreCallLog.Operation) async throws {
        let bench = try StagingBench()
        let bytes = pattern(operation == .put ? 1000 : 300_000)
        bench.faults.add(.init(operation, calls: 1...1, .lose(Self.down)))
        let file = try await bench.written("a", bytes)
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == bytes && bench.service.conflicts.isEmpty)
        #expect(!file.isDirty)
        let version = try #require(try await bench.memory.lookup("a")?.version)
        #expect(file.base == .version(version))
    }

    @Test func newBytesAfterALostAnswerReplaceOurOwnObject() async throws {
        let bench = try StagingBench()
        bench.faults.add(.init(.put, calls: 1...1, .lose(Self.down)))
        let file = try await bench.written("a", pattern(1000))
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        try bench.write(pattern(3000, seed: 2), to: file)
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == pattern(3000, seed: 2) && bench.service.conflicts.isEmpty)
    }

    @Test func anObjectOfSomebodyElseAfterALostRequestIsAConflict() async throws {
        let bench = try StagingBench()
        bench.faults.add(.init(.put, calls: 1...1, .fail(Self.down)))
        let file = try await bench.written("a", pattern(1000))
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        bench.memory.put("a", pattern(1000, seed: 5))
        await expectErrno(.staleNFSFileHandle) { try await bench.service.commit(file, .close) }
        #expect(bench.object("a") == pattern(1000, seed: 5))
    }

    @Test func twoWhoMakeTheSameEmptyFileAreNotBothFirst() async throws {
        let bench = try StagingBench()
        let file = try await bench.service.create(bench.target("lock"))
        bench.memory.put("lock", [])
        await expectErrno(.staleNFSFileHandle) { try await bench.service.commit(file, .close) }
    }

    @Test func aFullStoreIsENOSPCAndKeepsTheData() async throws {
        let bench = try StagingBench()
        bench.faults.add(.init(.put, .fail(StoreError(.quotaExceeded, "the bucket is full"))))
        let file = try await bench.written("a", pattern(1000))
        await expectErrno(.noSpace) { try await bench.service.commit(file, .close) }
        bench.faults.heal()
        try await bench.service.commit(file, .synchronize)
        #expect(bench.object("a") == pattern(1000))
    }

    @Test func aPartThatArrivesDamagedAgainAndAgainIsEIO() async throws {
        let bench = try StagingBench()
        bench.faults.add(.init(.uploadPart, .fail(StoreError(.checksumMismatch, "other bytes"))))
        let file = try await bench.written("a", pattern(200_000))
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        #expect(bench.object("a") == nil && bench.service.pending.count == 1)
    }

    @Test func anObjectThatArrivedDamagedIsReplacedAndIsNoConflict() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(1000))
        bench.memory.put("a", pattern(1000, seed: 9))
        var error = StoreError(.checksumMismatch, "other bytes")
        error.made = try #require(try await bench.memory.lookup("a")?.version)
        bench.faults.add(.init(.put, calls: 1...1, .fail(error)))
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == pattern(1000) && bench.service.conflicts.isEmpty)
    }

    /// A page of a mapping that is written back while the file is sent.
    @Test func aFileThatChangesWhileItArrivesIsCommittedAtOnceAllTheSame() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(1000))
        let left = bench.memory.put("a", pattern(1000, seed: 9))
        var error = StoreError(.checksumMismatch, "other bytes")
        error.made = left
        let descriptor = try file.descriptor()
        bench.faults.add(
            .init(
                .put, calls: 1...1,
                .perform { try? [UInt8]([7]).withUnsafeBytes { try descriptor.write($0, at: 1000) } }))
        bench.faults.add(.init(.put, calls: 1...1, .fail(error)))
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == pattern(1000) + [7] && bench.service.conflicts.isEmpty)
    }

    @Test func anUploadThatTheStoreHasDroppedIsBegunAgain() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(300_000))
        try await bench.grow(file, to: 400_000)
        let memory = bench.memory
        bench.faults.add(
            .init(
                .completeUpload, calls: 1...1,
                .perform {
                    memory.writes.withLock { writes in for upload in writes.uploads.keys { writes.end(upload) } }
                }))
        try await bench.service.commit(file, .close)
        #expect(bench.object("a") == (try bench.contents(of: file)))
        #expect(bench.faults.calls.count(.beginUpload) == 2 && bench.uploads == 0)
    }

    // MARK: Conflicts

    /// Found by the exerciser with seed 24: an fsync that had waited for a commit that lost the race returned success.
    @Test func whoWaitedForACommitThatLostTheRaceIsToldSoAsWell() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(1000))
        bench.memory.put("a", pattern(20, seed: 3))
        let (first, second) = (
            await bench.service.join(file, isUrgent: true, inspects: false),
            await bench.service.join(file, isUrgent: true, inspects: false)
        )
        await expectErrno(.staleNFSFileHandle) { _ = try first.get() }
        await expectErrno(.staleNFSFileHandle) { _ = try second.get() }
    }

    @Test(arguments: [1000, 300_000])
    func dataThatLostARaceIsKeptAndRestoredBesideTheObject(size: Int) async throws {
        let bench = try StagingBench()
        bench.memory.put("dir/a", pattern(10))
        let file = try await bench.opened("dir/a")
        try bench.write(pattern(size, seed: 2), to: file)
        bench.memory.put("dir/a", pattern(20, seed: 3))
        await expectErrno(.staleNFSFileHandle) { try await bench.service.commit(file, .close) }
        await expectErrno(.staleNFSFileHandle) { try await bench.service.commit(file, .close) }
        #expect(bench.events.all == ["conflicted dir/a"] && bench.service.files.isEmpty)
        #expect(bench.service.file(file.number) == nil && bench.service.pending.isEmpty)
        let conflict = try #require(bench.service.conflicts.first)
        #expect(conflict.path == "dir/a" && conflict.bytes == UInt64(size))
        await bench.service.release(file)
        try await bench.restart()
        #expect(bench.service.conflicts == [conflict])
        #expect(await bench.service.recover(for: bench.faults).isEmpty)
        let (path, _) = try await bench.service.restore(conflict.number)
        #expect(path == ByteString("dir/a.larder-conflict-\(conflict.number)"))
        #expect(bench.object(path) == pattern(size, seed: 2) && bench.object("dir/a") == pattern(20, seed: 3))
        #expect(bench.service.conflicts.isEmpty && bench.stagingFiles.isEmpty)
        await bench.abortsEnd()
        #expect(bench.uploads == 0)
    }

    @Test func aConflictIsNotRestoredOverSomethingElse() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(10))
        bench.memory.put("a", [1])
        await expectErrno(.staleNFSFileHandle) { try await bench.service.commit(file, .close) }
        await expectErrno(.fileExists) { _ = try await bench.service.restore(file.number, to: "a") }
        #expect(bench.object("a") == [1] && bench.service.conflicts.count == 1)
        try await bench.service.discardConflict(file.number)
        #expect(bench.service.conflicts.isEmpty && bench.stagingFiles.isEmpty)
        await expectErrno(.noSuchFileOrDirectory) { try await bench.service.discardConflict(file.number) }
    }

    // MARK: Write types

    @Test func asyncThroughReturnsBeforeTheStoreIsAskedAndUploadsInTheOrderOfCloses() async throws {
        let bench = try StagingBench { $0.backgroundFiles = 1 }
        let gate = FaultGate()
        bench.faults.add(.init(.put, calls: 1...1, .hold(gate)))
        for number in 0..<5 {
            let file = try await bench.written(ByteString("f\(number)"), pattern(100 + number), type: .asyncThrough)
            #expect(try await bench.service.commit(file, .close) == nil)
            await bench.service.release(file)
        }
        #expect(bench.service.pending.count == 5 && bench.object("f0") == nil)
        gate.open()
        await bench.settle()
        #expect(bench.faults.calls.all.filter { $0.operation == .put }.map(\.path) == ["f0", "f1", "f2", "f3", "f4"])
        for number in 0..<5 { #expect(bench.object(ByteString("f\(number)")) == pattern(100 + number)) }
        #expect(bench.stagingFiles.isEmpty && bench.service.pending.isEmpty)
    }

    @Test func asyncThroughFilesAreTriedAgainAndFlushedAtOnce() async throws {
        let bench = try StagingBench()
        bench.faults.add(.init(.put, .fail(Self.down)))
        for name in ["a", "b"] {
            let file = try await bench.written(ByteString(name), pattern(10), type: .asyncThrough)
            try await bench.service.commit(file, .close)
            await bench.service.release(file)
        }
        await bench.settle()
        let failed = await bench.service.flush { _ in true }
        #expect(failed.files == 0 && failed.failures.map(\.path).sorted() == ["a", "b"])
        bench.faults.heal()
        let flushed = await bench.service.flush { $0.path == "a" }
        #expect(flushed.files == 1 && flushed.failures.isEmpty && bench.object("b") == nil)
        bench.clock.endPauses()
        await bench.settle()
        #expect(bench.object("a") == pattern(10) && bench.object("b") == pattern(10))
    }

    @Test func mustCacheStaysOnTheNodeAcrossRestarts() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(5000), type: .mustCache)
        #expect(try await bench.service.commit(file, .synchronize) == nil)
        await bench.service.release(file)
        try await bench.restart(boot: "boot-2")
        let files = await bench.service.recover(for: bench.faults)
        bench.clock.endGrace()
        await bench.settle()
        #expect(files.map(\.path) == ["a"])
        #expect(try bench.contents(of: files[0]) == pattern(5000))
        #expect(bench.faults.calls.all.isEmpty && bench.service.file(files[0].number) != nil)
    }

    // MARK: Room

    @Test func aWriterWaitsForTheUploadThatMakesRoomInsteadOfFailing() async throws {
        let bench = try StagingBench(quota: 1 << 20)
        let gate = FaultGate()
        bench.faults.add(.init(.completeUpload, .hold(gate)))
        let large = try await bench.written("large", pattern(700_000))
        await bench.service.release(large)
        await gate.waitForArrivals(1)
        let second = try await bench.service.create(bench.target("second"))
        async let room: Void = bench.service.reserve(second, 600_000)
        gate.open()
        try await room
        #expect(bench.object("large") == pattern(700_000))
    }

    @Test func withoutAnyUploadUnderWayAFullNodeIsENOSPC() async throws {
        let bench = try StagingBench(quota: 1 << 20)
        let first = try await bench.written("first", pattern(700_000))
        bench.service.poll()
        let second = try await bench.service.create(bench.target("second"))
        await expectErrno(.noSpace) { try await bench.service.reserve(second, 600_000) }
        #expect(try bench.contents(of: first) == pattern(700_000), "staged bytes were evicted")
        _ = await bench.service.discard(first)
        await bench.service.release(first)
    }
}
