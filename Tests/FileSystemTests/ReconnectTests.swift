import Coordination
import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem

@Suite("When the coordinator goes away")
struct ReconnectTests {
    @Test("requests wait and are answered by its successor")
    func requestsWait() async throws {
        let coordinator = try FakeCoordinator()
        let (inode, _) = try coordinator.add("data", pattern(1000), .whole)
        let fixture = try await CoreFixture.start(coordinator)
        coordinator.stop()
        let waiting = Task {
            try await withCheckedThrowingContinuation { continuation in
                fixture.fileSystem.lookup("data", in: FakeTree.root) { continuation.resume(with: $0) }
            }
        }
        let opening = Task { try await fixture.open(inode) }
        try coordinator.start()
        guard case .entry(let attributes) = try await waiting.value else {
            Issue.record("no entry")
            return
        }
        #expect(attributes.inode == inode)
        #expect(try await opening.value.inode.number == inode)
        #expect(
            coordinator.log.withLock { $0.attaches } == [false, true], "the second attachment says that it resumes")
    }

    @Test("present bytes are read on without it, and absent ones once it is back, under a new lease")
    func openFilesGoOn() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(2_000_000)
        let (inode, file) = try coordinator.add("data", bytes, .mapped)
        try file.fill(0..<100_000)
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        coordinator.stop()
        #expect(try await fixture.read(open, 5000, 5000) == Array(bytes[5000..<10_000]))
        let absent = Task { try await fixture.read(open, 1_000_000, 5000) }
        try coordinator.start()
        #expect(try await absent.value == Array(bytes[1_000_000..<1_005_000]))
        #expect(coordinator.log.withLock { $0.opens[inode] } == 2)
        #expect(try await fixture.read(open, 5000, 5000) == Array(bytes[5000..<10_000]))
    }

    @Test("a read in flight is asked again of the successor")
    func readsInFlight() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(2_000_000)
        let (inode, _) = try coordinator.add("data", bytes, .mapped)
        coordinator.script.withLock { $0.onFetch = { _, _, _ in .never } }
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        let read = Task { try await fixture.read(open, 1_000_000, 5000) }
        #expect(await eventually { coordinator.log.withLock { !$0.fetches.isEmpty } })
        coordinator.script.withLock { $0.onFetch = { _, _, _ in .serve } }
        coordinator.stop()
        try coordinator.start()
        #expect(try await read.value == Array(bytes[1_000_000..<1_005_000]))
    }

    @Test("a version that its successor does not know can be read as far as it is here")
    func orphans() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(2_000_000)
        let (inode, file) = try coordinator.add("data", bytes, .mapped)
        try file.fill(0..<100_000)
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        coordinator.stop()
        try coordinator.add("data", pattern(7), .mapped)
        try coordinator.start()
        await #expect(throws: Errno.staleNFSFileHandle) { try await fixture.read(open, 1_000_000, 5000) }
        #expect(try await fixture.read(open, 5000, 5000) == Array(bytes[5000..<10_000]))
    }

    @Test("requests fail with EIO when it stays away, and work again when it is back")
    func givesUp() async throws {
        let coordinator = try FakeCoordinator()
        try coordinator.add("data", pattern(1000), .whole)
        let fixture = try await CoreFixture.start(coordinator, patience: .milliseconds(50))
        coordinator.stop()
        let lookup = { @Sendable () async throws -> MountedFileSystem.Found in
            try await withCheckedThrowingContinuation { continuation in
                fixture.fileSystem.lookup("data", in: FakeTree.root) { continuation.resume(with: $0) }
            }
        }
        await #expect(throws: Errno.ioError) { try await lookup() }
        await #expect(throws: Errno.ioError) { try await lookup() }
        try coordinator.start()
        #expect(await eventually { fixture.link.generation > 1 })
        guard case .entry = try await lookup() else {
            Issue.record("no entry")
            return
        }
    }

    @Test("a real mount goes on, with its device lent again")
    func mountGoesOn() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(3_000_000)
        try coordinator.add("data", bytes, .passthrough)
        try coordinator.add("mapped", bytes, .mapped)
        let reference = try coordinator.reference(bytes)
        let fixture = try await MountFixture.start(coordinator)
        for round in 1...3 {
            let reader = try await Shell.start(
                "cmp \(reference) $M/mapped && cmp \(reference) $M/data", mountPoint: fixture.path)
            coordinator.stop()
            try coordinator.start()
            #expect(await reader.wait() == 0, "\(reader.output)")
            #expect(await eventually { coordinator.log.withLock { $0.devices } == 1 + round })
        }
    }
}
