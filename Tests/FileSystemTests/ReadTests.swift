import CLinux
import Coordination
import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem

/// A file system on the fake coordinator, without a mount.
final class CoreFixture: Sendable {
    let coordinator: FakeCoordinator
    let link: CoordinatorLink
    let fileSystem: MountedFileSystem

    static func start(_ coordinator: FakeCoordinator, patience: Duration = .seconds(30)) async throws -> CoreFixture {
        try await blocking { try CoreFixture(coordinator, patience) }
    }

    private init(_ coordinator: FakeCoordinator, _ patience: Duration) throws {
        self.coordinator = coordinator
        link = try coordinator.link(patience: patience)
        fileSystem = MountedFileSystem(link: link, logger: quietLogger)
    }

    deinit {
        fileSystem.stop()
        link.close()
    }

    func open(_ inode: UInt64, flags: Int32 = O_RDONLY) async throws -> OpenFile {
        try await withCheckedThrowingContinuation { continuation in
            fileSystem.open(inode, flags: flags) { continuation.resume(with: $0) }
        }
    }

    /// As the FUSE callback reads: what is here, else what must be fetched.
    func read(_ file: OpenFile, _ offset: UInt64, _ count: Int) async throws -> [UInt8] {
        try await withCheckedThrowingContinuation { continuation in
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 4096)
            defer { buffer.deallocate() }
            if let read = fileSystem.readPresent(file, at: offset, into: buffer) {
                return continuation.resume(returning: Array(buffer[..<read]))
            }
            fileSystem.readMissing(file, at: offset, count: count) { result in
                continuation.resume(with: result.map { Array($0.bytes) })
            }
        }
    }
}

@Suite("Reading")
struct ReadTests {
    @Test("returns the right bytes to many threads at random while blocks are evicted under them")
    func randomReadsUnderEviction() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(2_000_003)
        let (inode, file) = try coordinator.add("data", bytes, .mapped)
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        let done = Lock(false)
        startThread(named: "test-evictor") {
            var generator = SplitMix(3)
            while !done.withLock({ $0 }) {
                let start = generator.next() % UInt64(bytes.count)
                try? file.evict(start..<min(start + 100_000, UInt64(bytes.count)))
                pause(milliseconds: 1)
            }
        }
        defer { done.withLock { $0 = true } }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for seed in 0..<4 as Range<UInt64> {
                group.addTask {
                    var generator = SplitMix(100 + seed)
                    for _ in 0..<400 {
                        let offset = Int(generator.next() % UInt64(bytes.count + 5000))
                        let count = Int(generator.next() % 40_000) + 1
                        let expected = Array(bytes[min(offset, bytes.count)..<min(offset + count, bytes.count)])
                        let read = try await fixture.read(open, UInt64(offset), count)
                        #expect(read == expected, "\(count) bytes at \(offset)")
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    @Test("asks again when its range was evicted before it was read, but not for ever")
    func evictedInBetween() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(2_000_000)
        let (inode, _) = try coordinator.add("data", bytes, .mapped)
        let left = Lock(3)
        coordinator.script.withLock { script in
            script.onFetch = { _, _, prefetch in
                left.withLock { left in
                    if !prefetch { left -= 1 }
                    return left >= 0 ? .evict : .serve
                }
            }
        }
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        #expect(try await fixture.read(open, 5000, 5000) == Array(bytes[5000..<10_000]))
        coordinator.script.withLock { $0.onFetch = { _, _, _ in .evict } }
        await #expect(throws: Errno.ioError) { try await fixture.read(open, 1_500_000, 5000) }
    }

    @Test("takes memory files where nothing can be cached, also for a read that is partly cached")
    func memoryFiles() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(2_000_000)
        let (inode, file) = try coordinator.add("data", bytes, .mapped)
        try file.fill(4096..<8192)
        coordinator.script.withLock { $0.onFetch = { _, _, _ in .memory } }
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        #expect(try await fixture.read(open, 1000, 20_000) == Array(bytes[1000..<21_000]))
        let asked = coordinator.log.withLock { $0.fetches.count }
        #expect(try await fixture.read(open, 9000, 100) == Array(bytes[9000..<9100]))
        #expect(coordinator.log.withLock { $0.fetches.count } == asked, "the side buffer has these bytes")
    }

    @Test("fetches exactly the absent blocks of a random read")
    func fetchesExactly() async throws {
        let coordinator = try FakeCoordinator()
        let (inode, file) = try coordinator.add("data", pattern(8_000_000), .mapped)
        try file.fill(4096 * 10..<4096 * 12)
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        _ = try await fixture.read(open, 5_000_100, 10)
        _ = try await fixture.read(open, 4096 * 11, 4096 * 3)
        _ = try await fixture.read(open, 4096 * 11, 4096 * 3)
        let asked = coordinator.log.withLock { $0.fetches.map(\.range) }
        #expect(asked == [4_997_120..<5_001_216, 4096 * 12..<4096 * 14])
    }

    @Test("reads ahead of a scan, so that most reads find their bytes")
    func readsAhead() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(24 << 20)
        let (inode, _) = try coordinator.add("data", bytes, .mapped, blockSize: 128 << 10)
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        for index in 0..<192 {
            let read = try await fixture.read(open, UInt64(index) << 17, 1 << 17)
            #expect(read.elementsEqual(bytes[index << 17..<(index + 1) << 17]))
        }
        let fetches = coordinator.log.withLock { $0.fetches }
        #expect(fetches.contains { $0.prefetch })
        #expect(fetches.filter(\.prefetch).count < 40, "a message for each half window, not for each read")
        #expect(fetches.filter(\.prefetch).reduce(0) { $0 + $1.range.count } <= bytes.count)
    }

    @Test("fetches a small object whole at its first read")
    func smallObject() async throws {
        let coordinator = try FakeCoordinator()
        let (inode, file) = try coordinator.add("data", pattern(300_000), .mapped)
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        _ = try await fixture.read(open, 100_000, 10)
        #expect(await eventually { file.map?.isComplete == true })
    }

    @Test("gives the coordinator's error to the reader, and goes on")
    func failure() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(2_000_000)
        let (inode, _) = try coordinator.add("data", bytes, .mapped)
        coordinator.script.withLock { $0.onFetch = { _, _, _ in .fail(.staleNFSFileHandle) } }
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        await #expect(throws: Errno.staleNFSFileHandle) { try await fixture.read(open, 0, 10) }
        coordinator.script.withLock { $0.onFetch = { _, _, _ in .serve } }
        #expect(try await fixture.read(open, 0, 10) == Array(bytes[..<10]))
    }

    @Test("returns nothing at and past the end", arguments: [FakeGrant.whole, .mapped, .inline, .source, .readThrough])
    func end(_ grant: FakeGrant) async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(10_001)
        let (inode, _) = try coordinator.add("data", bytes, grant)
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        #expect(try await fixture.read(open, 10_000, 4096) == Array(bytes[10_000...]))
        #expect(try await fixture.read(open, 10_001, 4096) == [])
        #expect(try await fixture.read(open, 1 << 40, 4096) == [])
    }

    @Test("reports which parts of cached files were read, merged")
    func accessReports() async throws {
        let coordinator = try FakeCoordinator()
        let (inode, file) = try coordinator.add("data", pattern(10 << 20), .mapped, blockSize: 128 << 10)
        try file.fill(0..<10 << 20)
        let fixture = try await CoreFixture.start(coordinator)
        let open = try await fixture.open(inode)
        for _ in 0..<1000 {
            _ = try await fixture.read(open, 0, 4096)
            _ = try await fixture.read(open, 5 << 20, 4096)
            _ = try await fixture.read(open, 5 << 20 + 300_000, 4096)
        }
        #expect(await eventually { coordinator.log.withLock { $0.reports.count } >= 2 })
        let covered = coordinator.log.withLock { $0.reports }
        #expect(covered.count < 50)
        #expect(covered.allSatisfy { $0.offset + $0.length <= 10 << 20 })
        #expect(
            covered.contains { $0.offset == 0 }
                && covered.contains { $0.offset <= 5 << 20 && $0.offset + $0.length > 5 << 20 })
    }

    @Test("many opens of one inode at once ask once, share the lease, and give it back once")
    func concurrentOpens() async throws {
        let coordinator = try FakeCoordinator()
        let gate = OneShot<Bool>()
        coordinator.script.withLock { $0.openGate = gate }
        let (inode, _) = try coordinator.add("data", pattern(1000), .whole)
        let fixture = try await CoreFixture.start(coordinator)
        try await withThrowingTaskGroup(of: OpenFile.self) { group in
            for _ in 0..<50 { group.addTask { try await fixture.open(inode) } }
            #expect(await eventually { coordinator.log.withLock { $0.opens[inode] } == 1 })
            gate.set(true)
            for try await file in group { fixture.fileSystem.closeLater(file) }
        }
        #expect(await eventually { coordinator.log.withLock { $0.releases } == 1 })
        #expect(coordinator.log.withLock { $0.opens[inode] } == 1)
        #expect(fixture.fileSystem.openInodes.all().isEmpty)
    }

    @Test("a failed open fails all that wait for it and leaves nothing behind")
    func failedOpen() async throws {
        let coordinator = try FakeCoordinator()
        let fixture = try await CoreFixture.start(coordinator)
        await #expect(throws: Errno.staleNFSFileHandle) { try await fixture.open(4711) }
        #expect(fixture.fileSystem.openInodes.all().isEmpty)
    }
}
