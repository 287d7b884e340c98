import Coordination
import Platform
import Testing

@testable import Coordinator
@testable import UnderStores

/// Looks take the place of conditions that a store does not enforce, beside what somebody waits for.
@Suite struct LookingTests {
    @Test func aCloseWaitsForTheUploadAndNotForTheLookAfterwards() async throws {
        let bench = try StagingBench(enforcing: false)
        let gate = FaultGate()
        bench.faults.add(.init(.look, calls: 2...2, .hold(gate)))
        let file = try await bench.written("a", pattern(1000))
        _ = try await bench.service.commit(file, .close)
        #expect(bench.object("a") == pattern(1000))
        await gate.waitForArrivals(1)
        let end = Task { await bench.service.release(file) }
        // The bytes stay until it is known that they are safe in the store.
        #expect(bench.stagingFiles == [file.number])
        gate.open()
        await end.value
        await bench.settle()
        #expect(bench.stagingFiles.isEmpty && bench.service.conflicts.isEmpty)
        #expect(bench.events.all == ["committed a", "finished a"])
    }

    @Test(arguments: [WriteType.cacheThrough, .asyncThrough])
    func whoIsOverwrittenInTheMomentOfTheCommitKeepsItsBytes(type: WriteType) async throws {
        let bench = try StagingBench(enforcing: false)
        let memory = bench.memory
        // The second look of a file that is closed at once, the first of one that is uploaded later.
        let after = type == .cacheThrough ? 2 : 1
        bench.faults.add(.init(.look, calls: after...after, .perform { memory.put("a", pattern(20, seed: 3)) }))
        let file = try await bench.written("a", pattern(1000), type: type)
        _ = try await bench.service.commit(file, .close)
        await bench.service.release(file)
        if type == .asyncThrough { _ = await bench.service.flush { _ in true } }
        await bench.settle()
        if type == .asyncThrough { await bench.service.waitForLook(at: file) }
        let conflict = try #require(bench.service.conflicts.first)
        #expect(conflict.path == "a" && conflict.bytes == 1000 && bench.object("a") == pattern(20, seed: 3))
        #expect(bench.events.all == ["committed a", "conflicted a"])
        _ = try await bench.service.restore(conflict.number, to: "b")
        #expect(bench.object("b") == pattern(1000))
    }

    @Test func theNextCommitOfAFileThatWasOverwrittenIsALostRace() async throws {
        let bench = try StagingBench(enforcing: false)
        let memory = bench.memory
        bench.faults.add(.init(.look, calls: 2...2, .perform { memory.put("a", pattern(20, seed: 3)) }))
        let file = try await bench.written("a", pattern(1000))
        _ = try await bench.service.commit(file, .close)
        try bench.write(pattern(2000, seed: 2), to: file)
        await expectErrno(.staleNFSFileHandle) { _ = try await bench.service.commit(file, .close) }
        #expect(bench.object("a") == pattern(20, seed: 3))
        #expect(bench.service.conflicts.map(\.bytes) == [2000])
    }

    @Test func anObjectThatWasThereBeforeTheFileIsNotOverwritten() async throws {
        let bench = try StagingBench(enforcing: false)
        bench.memory.put("a", pattern(20, seed: 3))
        let file = try await bench.written("a", pattern(1000))
        await expectErrno(.staleNFSFileHandle) { _ = try await bench.service.commit(file, .close) }
        #expect(bench.object("a") == pattern(20, seed: 3) && bench.service.conflicts.map(\.bytes) == [1000])
    }

    @Test func anObjectThatIsRemovedAfterItsCommitIsNoConflict() async throws {
        let bench = try StagingBench(enforcing: false)
        let memory = bench.memory
        bench.faults.add(
            .init(.look, calls: 2...2, .perform { _ = memory.state.withLock { $0.remove("a") } }))
        let file = try await bench.written("a", pattern(1000))
        _ = try await bench.service.commit(file, .close)
        await bench.service.release(file)
        await bench.settle()
        #expect(bench.object("a") == nil && bench.service.conflicts.isEmpty && bench.stagingFiles.isEmpty)
    }

    @Test func aStoreThatDoesNotAnswerALookIsNoReasonForAnError() async throws {
        let bench = try StagingBench(enforcing: false)
        bench.faults.add(.init(.look, .fail(StoreError(.unavailable, "the store is down"))))
        let file = try await bench.written("a", pattern(1000))
        _ = try await bench.service.commit(file, .close)
        await bench.service.release(file)
        await bench.settle()
        #expect(bench.object("a") == pattern(1000) && bench.service.conflicts.isEmpty && bench.stagingFiles.isEmpty)
    }

    @Test func aKillBeforeTheLookAfterwardsLosesNothing() async throws {
        let bench = try StagingBench(enforcing: false)
        let gate = FaultGate()
        bench.faults.add(.init(.look, calls: 2...2, .hold(gate)))
        let file = try await bench.written("a", pattern(1000))
        _ = try await bench.service.commit(file, .close)
        await gate.waitForArrivals(1)
        try await bench.restart()
        bench.faults.heal()
        gate.open()
        _ = await bench.service.recover(for: bench.faults)
        bench.clock.endGrace()
        await bench.settle()
        #expect(bench.object("a") == pattern(1000) && bench.service.conflicts.isEmpty)
    }

    @Test func aConflictThatIsRestoredStaysUntilItsObjectIsSure() async throws {
        let bench = try StagingBench(enforcing: false)
        bench.memory.put("a", pattern(20, seed: 3))
        let file = try await bench.written("a", pattern(1000))
        await expectErrno(.staleNFSFileHandle) { _ = try await bench.service.commit(file, .close) }
        let number = try #require(bench.service.conflicts.first).number
        let memory = bench.memory
        bench.faults.add(.init(.look, on: "b", calls: 1...1, .perform { memory.put("b", pattern(30, seed: 4)) }))
        await expectErrno(.fileExists) { _ = try await bench.service.restore(number, to: "b") }
        #expect(bench.service.conflicts.map(\.number) == [number] && bench.object("b") == pattern(30, seed: 4))
        _ = try await bench.service.restore(number, to: "c")
        #expect(bench.service.conflicts.isEmpty && bench.object("c") == pattern(1000))
    }

    @Test func aFileThatGetsAnotherNameIsLookedAtAgain() async throws {
        let bench = try StagingBench(enforcing: false)
        let file = try await bench.written("a", pattern(1000))
        try await bench.service.holding([file]) { () async throws(CoordinationError) in
            try await bench.service.move(file, to: "b", StagingService.Move(base: .absent))
        }
        bench.memory.put("b", pattern(20, seed: 3))
        await expectErrno(.staleNFSFileHandle) { _ = try await bench.service.commit(file, .close) }
        #expect(bench.object("b") == pattern(20, seed: 3) && bench.object("a") == nil)
    }

    @Test func aStoreThatEnforcesConditionsIsNotLookedAt() async throws {
        let bench = try StagingBench()
        _ = try await bench.memory.probeConditions(in: "")
        let file = try await bench.written("a", pattern(1000))
        _ = try await bench.service.commit(file, .close)
        await bench.service.release(file)
        await bench.settle()
        #expect(bench.faults.calls.count(.look) == 0 && bench.object("a") == pattern(1000))
    }
}
