import Coordination
import Platform
import SystemPackage
import Testing

@testable import Coordinator

/// The rules of fcntl(2) and flock(2) locks over all mounts of a node.
@Suite struct LockTests {
    private func lock(
        _ kind: WireFileLock.Kind, _ range: ClosedRange<UInt64> = 0 ... .max, owner: UInt64 = 1, whole: Bool = false
    ) -> WireFileLock {
        var lock = WireFileLock()
        lock.kind = kind
        lock.start = range.lowerBound
        lock.end = range.upperBound
        lock.owner = owner
        lock.pid = 42
        lock.wholeFile = whole
        return lock
    }

    private func errno(_ body: () async throws(CoordinationError) -> Void) async -> Errno? {
        do throws(CoordinationError) {
            try await body()
            return nil
        } catch { return error.errno }
    }

    @Test func whoAsksWithoutWaitingGetsTheLockOfAnOpenFileThatIsJustBeingClosed() async throws {
        let table = LockTable()
        let (first, second) = (lock(.exclusive, whole: true), lock(.exclusive, owner: 2, whole: true))
        try await table.set(7, first, waits: false, session: 1, operation: 1)
        #expect(
            await errno { () async throws(CoordinationError) in
                try await table.set(7, second, waits: false, session: 2, operation: 2)
            } == .wouldBlock)
        table.noteClosing(7, lock(.unlocked, whole: true), session: 1)
        async let granted = errno { () async throws(CoordinationError) in
            try await table.set(7, second, waits: false, session: 2, operation: 3)
        }
        try await table.set(7, lock(.unlocked, whole: true), waits: false, session: 1, operation: 4)
        #expect(await granted == nil)
    }

    @Test func aLockThatIsHeldOnWhenOneOfItsDescriptorsWasClosedStillKeepsOthersOut() async throws {
        let table = LockTable()
        try await table.set(7, lock(.shared, whole: true), waits: false, session: 1, operation: 1)
        table.noteClosing(7, lock(.unlocked, whole: true), session: 1)
        let wanted = lock(.exclusive, owner: 2, whole: true)
        for operation: UInt64 in [2, 3] {
            #expect(
                await errno { () async throws(CoordinationError) in
                    try await table.set(7, wanted, waits: false, session: 1, operation: operation)
                } == .wouldBlock)
        }
        try await table.set(7, lock(.unlocked, whole: true), waits: false, session: 1, operation: 4)
        try await table.set(7, wanted, waits: false, session: 1, operation: 5)
    }

    @Test func sharedLocksStandBesideEachOtherAndExclusiveOnesDoNot() async throws {
        let table = LockTable()
        try await table.set(7, lock(.shared), waits: false, session: 1, operation: 1)
        try await table.set(7, lock(.shared), waits: false, session: 2, operation: 1)
        let refused = await errno { () async throws(CoordinationError) in
            try await table.set(7, lock(.exclusive), waits: false, session: 3, operation: 1)
        }
        #expect(refused == .wouldBlock)
        let other = try table.conflict(8, lock(.exclusive), session: 3)
        #expect(other == nil, "another inode has other locks")
    }

    @Test func flockAndFcntlKnowNothingOfEachOther() async throws {
        let table = LockTable()
        try await table.set(7, lock(.exclusive, whole: true), waits: false, session: 1, operation: 1)
        try await table.set(7, lock(.exclusive), waits: false, session: 2, operation: 1)
    }

    @Test func givingBackTheMiddleKeepsBothEnds() async throws {
        let table = LockTable()
        try await table.set(7, lock(.exclusive, 0...99), waits: false, session: 1, operation: 1)
        try await table.set(7, lock(.unlocked, 40...59), waits: false, session: 1, operation: 2)
        #expect(try table.conflict(7, lock(.shared, 40...59, owner: 2), session: 1) == nil)
        #expect(try table.conflict(7, lock(.shared, 39...39, owner: 2), session: 1)?.end == 39)
        #expect(try table.conflict(7, lock(.shared, 60...60, owner: 2), session: 1)?.start == 60)
    }

    @Test func aWaitEndsWhenTheLockIsGivenBackInTheOrderOfAsking() async throws {
        let table = LockTable()
        try await table.set(7, lock(.exclusive), waits: false, session: 1, operation: 1)
        async let second: Void = table.set(7, lock(.exclusive), waits: true, session: 2, operation: 1)
        try await table.set(7, lock(.unlocked), waits: false, session: 1, operation: 2)
        try await second
        #expect(try table.conflict(7, lock(.shared), session: 1) != nil, "the second has it now")
    }

    @Test func theLocksOfASessionEndWithIt() async throws {
        let table = LockTable()
        try await table.set(7, lock(.exclusive), waits: false, session: 1, operation: 1)
        table.release(session: 1)
        try await table.set(7, lock(.exclusive), waits: false, session: 2, operation: 1)
    }

    @Test func aCancelledWaitIsInterruptedEvenIfTheCancellationCameFirst() async throws {
        let table = LockTable()
        try await table.set(7, lock(.exclusive), waits: false, session: 1, operation: 1)
        table.cancel(operation: 5, session: 2)
        let ended = await errno { () async throws(CoordinationError) in
            try await table.set(7, lock(.exclusive), waits: true, session: 2, operation: 5)
        }
        #expect(ended == .interrupted)
    }

    @Test func twoThatWouldWaitForEachOtherAreToldSo() async throws {
        let table = LockTable()
        try await table.set(7, lock(.exclusive, 0...0), waits: false, session: 1, operation: 1)
        try await table.set(7, lock(.exclusive, 1...1), waits: false, session: 2, operation: 1)
        let results = await withTaskGroup(of: Errno?.self) { group in
            group.addTask {
                await errno { () async throws(CoordinationError) in
                    try await table.set(7, lock(.exclusive, 1...1), waits: true, session: 1, operation: 2)
                }
            }
            group.addTask {
                let result = await errno { () async throws(CoordinationError) in
                    try await table.set(7, lock(.exclusive, 0...0), waits: true, session: 2, operation: 2)
                }
                return result
            }
            // Whoever asks second closes the circle; the other gets the lock when that one's session ends.
            let first = await group.next() ?? nil
            table.release(session: 1)
            table.release(session: 2)
            let rest = await group.next() ?? nil
            return [first, rest]
        }
        #expect(results[0] == .deadlock)
        #expect(results[1] != .deadlock)
    }

    @Test func anExclusiveLockThatBecomesSharedLetsReadersIn() async throws {
        let table = LockTable()
        try await table.set(7, lock(.exclusive), waits: false, session: 1, operation: 1)
        async let reader: Void = table.set(7, lock(.shared), waits: true, session: 2, operation: 1)
        try await table.set(7, lock(.shared), waits: false, session: 1, operation: 2)
        try await reader
    }
}
