import Coordination
import Glibc
import LMDB
import Logging
import Platform
import SystemPackage
import Testing
import UnderStores

@testable import BlockCaching
@testable import Coordinator

@Suite struct StagedCrashTests {
    /// Of a file of six parts: one call that begins, six that bring parts, one that completes.
    private static let steps: [(operation: StoreCallLog.Operation, call: Int)] =
        [(.beginUpload, 1)] + (1...6).map { (.uploadPart, $0) } + [(.completeUpload, 1)]
    private static let size = 500_000

    @Test(arguments: 0..<8) func aKillBeforeAnyStepOfAnUploadLosesNothing(step: Int) async throws {
        let (operation, call) = Self.steps[step]
        let bench = try StagingBench()
        let gate = FaultGate()
        bench.faults.add(.init(operation, calls: call...Int.max, .hold(gate)))
        let file = try await bench.written("a", pattern(Self.size))
        let service = bench.service
        let commit = Task { try? await service.commit(file, .close) }
        await gate.waitForArrivals(1)
        try await bench.restart()
        _ = await commit.value
        try await expectWhole(bench)
    }

    @Test(arguments: 0..<8) func aKillAfterAnyStepOfAnUploadLosesNothing(step: Int) async throws {
        let (operation, call) = Self.steps[step]
        let bench = try StagingBench()
        // The store has done it, and the coordinator never hears of it.
        bench.faults.add(.init(operation, calls: call...Int.max, .lose(StoreError(.unavailable, "killed"))))
        let file = try await bench.written("a", pattern(Self.size))
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        try await bench.restart()
        try await expectWhole(bench)
    }

    private func expectWhole(_ bench: StagingBench) async throws {
        bench.faults.heal()
        let files = await bench.service.recover(for: bench.faults)
        #expect(files.map(\.path) == ["a"])
        bench.clock.endGrace()
        await bench.finished("a")
        #expect(bench.object("a") == pattern(Self.size))
        #expect(bench.service.conflicts.isEmpty && bench.stagingFiles.isEmpty)
        await bench.abortsEnd()
        #expect(bench.uploads == 0)
    }

    @Test func partsThatTheStoreHasAreNotSentAgainAfterAKill() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(300_000))
        try await bench.grow(file, to: 500_000)
        let sent = bench.faults.calls.count(.uploadPart)
        #expect(sent == 4)
        let bytes = try bench.contents(of: file)
        try await bench.restart()
        _ = await bench.service.recover(for: bench.faults)
        bench.clock.endGrace()
        await bench.finished("a")
        #expect(bench.object("a") == bytes)
        #expect(bench.faults.calls.count(.uploadPart) == 6 && bench.faults.calls.count(.beginUpload) == 1)
    }

    @Test func aKillAfterThePutIsRecognisedAsOurOwnObject() async throws {
        let bench = try StagingBench()
        bench.faults.add(.init(.put, .lose(StoreError(.unavailable, "killed"))))
        let file = try await bench.written("a", pattern(1000))
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        let version = try await bench.memory.lookup("a")?.version
        try await bench.restart()
        bench.faults.heal()
        _ = await bench.service.recover(for: bench.faults)
        bench.clock.endGrace()
        await bench.finished("a")
        #expect(try await bench.memory.lookup("a")?.version == version)
        #expect(bench.service.conflicts.isEmpty)
    }

    @Test func aKillWhileAFileIsMovedOverAnotherLeavesTheNewOneOnly() async throws {
        let bench = try StagingBench()
        let old = try await bench.written("current", pattern(1000, seed: 1), type: .asyncThrough)
        let new = try await bench.written("temporary", pattern(2000, seed: 2), type: .asyncThrough)
        try await bench.service.holding([old, new]) { () async throws(CoordinationError) in
            for file in [old, new] { try await bench.service.commit(file, .close) }
            var move = StagingService.Move(base: .absent)
            move.replaced = old
            try await bench.service.move(new, to: "current", move)
            await bench.kill()
        }
        try bench.startAgain()
        _ = await bench.service.recover(for: bench.faults)
        await bench.settle()
        #expect(bench.object("current") == pattern(2000, seed: 2) && bench.object("temporary") == nil)
        #expect(bench.service.conflicts.isEmpty && bench.stagingFiles.isEmpty)
    }

    @Test func aPutWhoseAnswerWasLostCountsWhenTheNameIsGivenToAnotherFile() async throws {
        let bench = try StagingBench()
        bench.faults.add(.init(.put, .lose(StoreError(.unavailable, "lost"))))
        let file = try await bench.written("a", pattern(1000))
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        bench.faults.heal()
        try await bench.restart()
        let revived = try #require(await bench.service.recover(for: bench.faults).first)
        let version = try #require(try await bench.memory.lookup("a")?.version)
        try await bench.service.holding([revived]) { () async throws(CoordinationError) in
            #expect(revived.base == .version(version), "the store has the object of a predecessor")
        }
        await bench.service.discard(revived)
    }

    @Test func whatSomebodyElseHasPutMeanwhileIsNotTakenForOurs() async throws {
        let bench = try StagingBench()
        bench.faults.add(.init(.put, .fail(StoreError(.unavailable, "no answer"))))
        let file = try await bench.written("a", pattern(1000))
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        bench.faults.heal()
        bench.memory.put("a", pattern(1000, seed: 9))
        try await bench.service.holding([file]) { () async throws(CoordinationError) in
            #expect(file.base == .absent)
        }
        await bench.service.discard(file)
    }

    @Test(arguments: [true, false])
    func aKillDuringAnUnlinkKeepsTheFileWhetherTheObjectIsGoneOrNot(isGone: Bool) async throws {
        let bench = try StagingBench()
        bench.memory.put("a", pattern(500))
        let file = try await bench.opened("a", type: .asyncThrough)
        try bench.write(pattern(700, seed: 3), to: file)
        try await bench.service.holding([file]) { () async throws(CoordinationError) in
            try await bench.service.note(isLeaving: true, file)
            if isGone { #expect(bench.memory.remove("a")) }
            await bench.kill()
        }
        try bench.startAgain()
        _ = await bench.service.recover(for: bench.faults)
        bench.clock.endGrace()
        await bench.finished("a")
        #expect(bench.object("a") == pattern(700, seed: 3) && bench.service.conflicts.isEmpty)
    }

    @Test func anUploadThatWasBegunWithoutARecordIsDroppedByTheSuccessor() async throws {
        let bench = try StagingBench()
        let gate = FaultGate()
        bench.faults.add(.init(.beginUpload, .lose(StoreError(.unavailable, "killed"))))
        bench.faults.add(.init(.put, .hold(gate)))
        let file = try await bench.written("a", pattern(400_000))
        await expectErrno(.ioError) { try await bench.service.commit(file, .close) }
        #expect(bench.uploads > 0, "the store has begun an upload that nobody knows")
        try await bench.restart()
        bench.faults.heal()
        _ = await bench.service.recover(for: bench.faults)
        #expect(bench.uploads == 0)
        bench.clock.endGrace()
        await bench.finished("a")
        #expect(bench.object("a") == pattern(400_000) && bench.uploads == 0)
        #expect(try bench.journal.abandonedUploads().isEmpty)
    }

    @Test func acknowledgedFilesAreUploadedAfterAKillInTheOrderOfTheirCloses() async throws {
        let bench = try StagingBench { $0.backgroundFiles = 1 }
        let gate = FaultGate()
        bench.faults.add(.init(.put, .hold(gate)))
        for number in 0..<10 {
            let file = try await bench.written(ByteString("f\(number)"), pattern(10 + number), type: .asyncThrough)
            try await bench.service.commit(file, number % 2 == 0 ? .close : .synchronize)
        }
        try await bench.restart()
        bench.faults.heal()
        bench.faults.calls.reset()
        _ = await bench.service.recover(for: bench.faults)
        await bench.settle()
        #expect(
            bench.faults.calls.all.filter { $0.operation == .put }.map(\.path)
                == (0..<10).map { ByteString("f\($0)") })
        for number in 0..<10 { #expect(bench.object(ByteString("f\(number)")) == pattern(10 + number)) }
        #expect(bench.stagingFiles.isEmpty)
    }

    @Test func aMountThatComesBackGoesOnWritingItsFile() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(1000))
        let descriptor = try file.descriptor()  // what the mount was lent
        try await bench.restart()
        _ = await bench.service.recover(for: bench.faults)
        let claimed = try #require(bench.service.claim(file.number))
        bench.clock.endGrace()
        await bench.settle()
        #expect(bench.object("a") == nil, "the file of a mount that is back was committed")
        try [UInt8(7)].withUnsafeBytes { try descriptor.write($0, at: 1000) }
        try await bench.service.commit(claimed, .close)
        #expect(bench.object("a") == pattern(1000) + [7])
    }

    @Test func aFileWhoseBaseWasStillBeingCopiedIsForgotten() async throws {
        let bench = try StagingBench()
        bench.memory.put("a", pattern(200_000))
        let gate = FaultGate()
        bench.faults.add(.init(.read, .hold(gate)))
        let opening = Task { try? await bench.opened("a") }
        await gate.waitForArrivals(1)
        await bench.kill()
        gate.open()
        _ = await opening.value
        try bench.startAgain()
        #expect(await bench.service.recover(for: bench.faults).isEmpty)
        #expect(bench.stagingFiles.isEmpty && bench.service.conflicts.isEmpty)
        #expect(bench.object("a") == pattern(200_000))
    }

    @Test func anUntouchedFileIsNotCommittedAfterAKill() async throws {
        let bench = try StagingBench()
        bench.memory.put("a", pattern(1000))
        _ = try await bench.opened("a")
        try await bench.restart()
        bench.faults.calls.reset()
        _ = await bench.service.recover(for: bench.faults)
        bench.clock.endGrace()
        await bench.finished("a")
        #expect(bench.faults.calls.all.isEmpty && bench.stagingFiles.isEmpty)
    }

    @Test func afterARestartOfTheMachineOnlyWhatWasSyncedIsTrusted() async throws {
        let bench = try StagingBench()
        let gate = FaultGate()
        bench.faults.add(.init(.put, .hold(gate)))
        let synced = try await bench.written("synced", pattern(10), type: .asyncThrough)
        try await bench.service.commit(synced, .synchronize)
        let closed = try await bench.written("closed", pattern(20), type: .asyncThrough)
        try await bench.service.commit(closed, .close)
        _ = try await bench.written("open", pattern(30))
        bench.memory.put("untouched", pattern(40))
        _ = try await bench.opened("untouched")
        try await bench.restart(boot: "boot-2")
        bench.faults.heal()
        _ = await bench.service.recover(for: bench.faults)
        bench.clock.endGrace()
        await bench.settle()
        #expect(bench.object("synced") == pattern(10))
        #expect(bench.object("closed") == nil && bench.object("open") == nil)
        #expect(bench.service.conflicts.map(\.path).sorted() == ["closed", "open"])
    }

    // MARK: Damage

    @Test func aDamagedJournalKeepsEveryFileAsAConflictThatNamesItsPath() async throws {
        let bench = try StagingBench()
        _ = try await bench.written("dir/a", pattern(1000))
        _ = try await bench.written("b", pattern(2000))
        await bench.kill()
        let damaged = try Descriptor.open(bench.path + "/state/journal.lmdb", O_RDWR)
        let noise = pattern(16 << 10, seed: 9)
        try noise.withUnsafeBytes { try damaged.write($0, at: 0) }
        try bench.startAgain()
        #expect(bench.journal.isBegunAnew && bench.journal.reports.count >= 1)
        let names = try TierDirectory.names(in: bench.path + "/state")
        #expect(names.contains { $0.hasPrefix("journal.lmdb.damaged-") })
        #expect(await bench.service.recover(for: bench.faults).isEmpty)
        let conflicts = bench.service.conflicts.sorted { $0.path < $1.path }
        #expect(conflicts.map(\.path) == ["b", "dir/a"] && conflicts.map(\.bytes) == [2000, 1000])
        #expect(conflicts.allSatisfy { $0.store == bench.faults.identity && $0.reason.hasPrefix("recovered") })
        _ = try await bench.service.restore(conflicts[1].number, to: "dir/a")
        #expect(bench.object("dir/a") == pattern(1000))
        // Numbers of files that are there are not given again.
        let fresh = try await bench.written("c", pattern(1))
        #expect(!conflicts.map(\.number).contains(fresh.number))
    }

    @Test func aJournalThatEndsTheProcessAgainAndAgainIsMovedAside() async throws {
        let bench = try StagingBench()
        _ = try await bench.written("a", pattern(1000))
        await bench.kill()
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        for turn in 1...5 {
            // Opened, and dead before all of it was read.
            let journal = try Journal(directory: bench.path + "/state", bootIdentifier: "boot-1", logger: logger)
            #expect(journal.isBegunAnew == (turn == 5))
            journal.close()
        }
        try bench.startAgain()
        #expect(bench.service.conflicts.map(\.path) == ["a"])
    }

    @Test func aDamagedRecordIsSetAsideAndTheOthersGoOn() async throws {
        let bench = try StagingBench()
        let bad = try await bench.written("bad", pattern(1000))
        _ = try await bench.written("good", pattern(2000))
        let journal = bench.journal
        try journal.environment().write { (transaction) throws(LMDBError) in
            try transaction.put(journal.staged, Journal.key(bad.number), [1, 2, 3])
        }
        try await bench.restart()
        let files = await bench.service.recover(for: bench.faults)
        #expect(files.map(\.path) == ["good"])
        #expect(bench.service.conflicts.map(\.path) == ["bad"])
        #expect(bench.journal.reports.contains { $0.contains("damaged record") })
        bench.clock.endGrace()
        await bench.finished("good")
        #expect(bench.object("good") == pattern(2000))
    }

    @Test func aRecordThatIsDamagedOrCutOffAnywhereIsDecodedOrRefused() async throws {
        let bench = try StagingBench()
        let file = try await bench.written("a", pattern(100))
        let sound = file.record().encoded()
        for byte in sound.indices {
            var bytes = sound
            bytes[byte] ^= 1 << UInt8(byte % 8)
            _ = bytes.withUnsafeBytes { StagedRecord.decode($0) }
            #expect(Array(sound[..<byte]).withUnsafeBytes { StagedRecord.decode($0) } == nil)
        }
        #expect(sound.withUnsafeBytes { StagedRecord.decode($0) } == file.record())
    }
}

extension StagingBench {
    /// Returns when the service has finished the file of this path.
    func finished(_ path: ByteString) async {
        while !events.all.contains("finished \(path)") { await Task.yield() }
        await settle()
    }
}
