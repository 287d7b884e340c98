import CLinux
import Glibc
import Platform
import SystemPackage
import Testing

@testable import BlockCaching

/// A tmpfs of its own, unmounted when the object goes.
private final class SmallFileSystem: Sendable {
    let directory = TemporaryDirectory()
    var path: String { directory.path + "/mount" }

    init(bytes: Int) throws {
        try TierDirectory.makeDirectories(path)
        _ = try Errno.check(larder_mount("larder-test", path, "tmpfs", 0, "size=\(bytes),mode=700"))
    }

    deinit { _ = larder_unmount(path, CInt(MNT_DETACH)) }

    /// Takes all but `bytes` of the free space away.
    func fill(leaving bytes: UInt64) throws {
        let file = try Descriptor.open(path + "/filler", O_RDWR | O_CREAT)
        let chunk = [UInt8](repeating: 1, count: 4096)
        var offset: UInt64 = 0
        while try TierDirectory.free(path) > bytes {
            try chunk.withUnsafeBytes { try file.write($0, at: offset) }
            offset += 4096
        }
    }

    func unfill() { unlink(path + "/filler") }
}

extension TierDirectory {
    fileprivate static func free(_ path: String) throws -> UInt64 {
        var info = statvfs()
        guard statvfs(path, &info) == 0 else { throw Errno(rawValue: errno) }
        return UInt64(info.f_bavail) * UInt64(info.f_frsize)
    }
}

@Suite struct FailingDiskTests {
    private func bench(on disk: SmallFileSystem, quota: UInt64 = 64 << 20) throws -> CacheBench {
        // The index lies elsewhere, so that what is tested is the tier.
        try CacheBench { configuration in
            configuration.indexDirectory = configuration.tiers[0].path + "-index"
            configuration.tiers = [TierConfiguration(path: disk.path + "/cache", kind: .ram, quota: quota)]
        }
    }

    @Test func aFullDiskIsNeverTheReadersError() async throws {
        let disk = try SmallFileSystem(bytes: 16 << 20)
        let bench = try bench(on: disk)
        let object = bench.cache.object(objectID("before", size: 1 << 20), source: CountingSource(seed: 1))
        #expect(try await readRange(object, 0..<1 << 20) == expectedBytes(1, 0..<1 << 20))
        let loan = try object.loan()  // keeps it from making room for the others
        try disk.fill(leaving: 20_000)
        let source = CountingSource(seed: 2)
        let other = bench.cache.object(objectID("during", size: 4 << 20), source: source)
        for start in stride(from: 0 as UInt64, to: 2 << 20, by: 512 << 10) {
            #expect(
                try await readRange(other, start..<start + 512 << 10) == expectedBytes(2, start..<start + 512 << 10))
        }
        #expect(bench.cache.statistics().bytesReadThrough > 0)
        #expect(try readPresent(loan, 0..<1 << 20) == expectedBytes(1, 0..<1 << 20))
        disk.unfill()
        while bench.cache.statistics().tiers[0].state != .ok { await Task.yield() }
        guard case .cached = try await other.ensure(0..<512 << 10) else { Issue.record("did not recover"); return }
    }

    @Test func aDiskThatFillsUpInTheMiddleOfAFetchLosesNoByte() async throws {
        let disk = try SmallFileSystem(bytes: 16 << 20)
        let bench = try bench(on: disk)
        let source = StepwiseSource()
        let object = bench.cache.object(objectID("o", size: 1 << 20), source: source)
        let reader = Task { try await object.ensure(0..<262_144) }
        await source.begun()
        source.deliver(100_000)
        // Blocks are written when someone waits for them, at the latest.
        _ = try await object.ensure(0..<98_304)
        try disk.fill(leaving: 0)
        source.deliver(10_000_000)
        guard case .readThrough(let passed) = try await reader.value else {
            Issue.record("cached on a full disk"); return
        }
        #expect(try read(passed, 0..<262_144) == expectedBytes(1, 0..<262_144))
        guard case .full = bench.cache.statistics().tiers[0].state else {
            Issue.record("the tier is not marked full"); return
        }
        disk.unfill()
        while bench.cache.statistics().tiers[0].state != .ok { await Task.yield() }
        guard case .cached = try await object.ensure(0..<262_144) else { Issue.record("did not recover"); return }
        #expect(try await readRange(object, 0..<262_144) == expectedBytes(1, 0..<262_144))
    }

    @Test func theFloorOfFreeSpaceIsKept() async throws {
        let disk = try SmallFileSystem(bytes: 16 << 20)
        let bench = try CacheBench { configuration in
            configuration.indexDirectory = configuration.tiers[0].path + "-index"
            configuration.tiers = [
                TierConfiguration(path: disk.path + "/cache", kind: .ram, quota: 64 << 20, floorFreeBytes: 6 << 20)
            ]
        }
        for number in 0..<20 {
            let object = bench.cache.object(
                objectID("o\(number)", size: 1 << 20), source: CountingSource(seed: UInt64(number)))
            #expect(try await readRange(object, 0..<1 << 20) == expectedBytes(UInt64(number), 0..<1 << 20))
            #expect(try TierDirectory.free(disk.path) >= 6 << 20)
        }
        #expect(bench.cache.statistics().tiers[0].evictions > 0)
    }

    @Test func aFailedTierIsPassedByAndComesBack() async throws {
        let bench = try CacheBench { $0.probeInterval = .seconds(3600) }
        let source = CountingSource(seed: 1)
        let object = bench.cache.object(objectID("o", size: 1 << 20), source: source)
        _ = try await object.ensure(0..<1 << 20)
        let tier = bench.cache.engine.tiers[0]
        bench.cache.engine.noteFailure(of: tier, .ioError, doing: "a test")
        guard case .failed(let reason) = bench.cache.statistics().tiers[0].state else {
            Issue.record("still in use"); return
        }
        #expect(reason.contains("a test"))
        guard case .readThrough(let passed) = try await object.ensure(1000..<70_000) else {
            Issue.record("read from it"); return
        }
        #expect(try read(passed, 1000..<70_000) == expectedBytes(1, 1000..<70_000))
        #expect(throws: CacheError.noTier) { try object.loan() }
        tier.state.withLock { $0.health = .ok }
        _ = try await object.ensure(0..<1 << 20)
        #expect(try await readRange(object, 0..<1 << 20) == expectedBytes(1, 0..<1 << 20))
        let used = bench.cache.statistics().tiers[0].used
        #expect(used == 1 << 20, "\(used)")
    }

    @Test func anotherTierTakesOverFromAFailedOne() async throws {
        let bench = try CacheBench { configuration in
            configuration.probeInterval = .seconds(3600)
            configuration.tiers.insert(
                TierConfiguration(path: configuration.tiers[0].path + "-ram", kind: .ram, quota: 32 << 20), at: 0)
        }
        let object = bench.cache.object(objectID("o", size: 1 << 20), source: CountingSource())
        _ = try await object.ensure(0..<1 << 20)
        bench.cache.engine.noteFailure(of: bench.cache.engine.tiers[0], .ioError, doing: "a test")
        guard case .cached = try await object.ensure(0..<1 << 20) else { Issue.record("not cached"); return }
        #expect(object.tierPath == bench.configuration.tiers[1].path)
        #expect(try await readRange(object, 0..<1 << 20) == expectedBytes(1, 0..<1 << 20))
        #expect(bench.cache.statistics().tiers[0].used == 0)
    }
}
