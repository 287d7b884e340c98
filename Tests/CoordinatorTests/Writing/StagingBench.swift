import Coordination
import Glibc
import Logging
import Platform
import SystemPackage
import Testing

@testable import BlockCaching
@testable import Coordinator
@testable import UnderStores

/// A staging service on directories of its own, over a store in memory, that can be killed and started again.
///
/// Blocks have 4 KiB, parts 64 KiB, so that small files meet every boundary.
/// A test uses it from one task, but for calls of what it holds, which is sendable itself.
final class StagingBench: @unchecked Sendable {
    static let part = 64 << 10
    static let store = "memory"

    let path: String
    let memory: MemoryStore
    /// What the service sees of the store.
    let faults: FaultStore
    let events = EventLog()
    private let configure: (inout StagingConfiguration) -> Void
    private let quota: UInt64
    private var boot: String
    private(set) var clock = ManualClock()
    private(set) var cache: BlockCache
    private(set) var journal: Journal
    private(set) var service: StagingService

    init(
        quota: UInt64 = 64 << 20, enforcing: Bool = true,
        configure: @escaping (inout StagingConfiguration) -> Void = { _ in }
    ) throws {
        var template = Array("/tmp/larder-staging-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        path = template.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        var limits = ObjectLimits()
        limits.smallestPart = UInt64(Self.part)
        memory = MemoryStore(named: Self.store, limits: limits)
        if !enforcing { memory.enforce(EnforcedConditions(isKnown: true)) }
        faults = FaultStore(memory)
        self.configure = configure
        self.quota = quota
        boot = "boot-1"
        (cache, journal, service) = try Self.start(path, quota, boot, clock, events, configure)
    }

    deinit {
        service.abandon()
        cache.engine.abandon()
        Self.removeTree(path)
    }

    private static func start(
        _ path: String, _ quota: UInt64, _ boot: String, _ clock: ManualClock, _ events: EventLog,
        _ configure: (inout StagingConfiguration) -> Void
    ) throws -> (BlockCache, Journal, StagingService) {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        var tiers = CacheConfiguration(tiers: [TierConfiguration(path: path + "/cache", kind: .disk, quota: quota)])
        tiers.blockSize = 4096
        tiers.bootIdentifier = boot
        let cache = try BlockCache(configuration: tiers, logger: logger)
        mkdir(path + "/state", 0o700)
        let journal = try Journal(directory: path + "/state", bootIdentifier: boot, logger: logger)
        var configuration = StagingConfiguration()
        configuration.parts.first = UInt64(part)
        configuration.parts.doubling = 4
        configuration.parts.largest = UInt64(4 * part)
        configuration.largeFile = UInt64(4 * part)
        configuration.shortestPoll = .milliseconds(1)
        configuration.longestPoll = .milliseconds(1)
        configuration.firstRetry = .seconds(100)
        configuration.longestRetry = .seconds(100)
        configuration.grace = .seconds(1000)
        configure(&configuration)
        let service = try StagingService(
            journal: journal, cache: cache, configuration: configuration, clock: clock, events: events, logger: logger)
        return (cache, journal, service)
    }

    /// Ends everything as kill -9 would.
    func kill() async {
        let running = service.state.withLock { Array($0.files.values) }
        service.abandon()
        weak let index = cache.engine.index
        cache.engine.abandon()
        for file in running {
            _ = await file.state.withLock { $0.flight }?.task.value
            await file.state.withLock { $0.beginning }?.value
            await file.state.withLock { $0.upload }?.close()
        }
        // LMDB files must not be open twice in one process.
        while !journal.isGone || index != nil { await Task.yield() }
    }

    /// Kills and starts again, without attaching the store.
    func restart(boot: String? = nil) async throws {
        await kill()
        try startAgain(boot: boot)
    }

    func startAgain(boot: String? = nil) throws {
        self.boot = boot ?? self.boot
        clock = ManualClock()
        (cache, journal, service) = try Self.start(path, quota, self.boot, clock, events, configure)
    }

    // MARK: Files

    func target(
        _ path: ByteString, base: WriteCondition = .absent, type: WriteType = .cacheThrough, inode: UInt64 = 7
    ) -> StagedTarget {
        StagedTarget(
            store: faults, path: path, base: base, metadata: WrittenMetadata(), writeType: type, inode: inode)
    }

    /// A new staged file with these bytes, not committed.
    func written(
        _ path: ByteString, _ bytes: [UInt8], base: WriteCondition = .absent, type: WriteType = .cacheThrough
    ) async throws -> StagedFile {
        let file = try await service.create(target(path, base: base, type: type))
        try write(bytes, to: file)
        return file
    }

    /// A staged file with the bytes of the object as it is in the store.
    func opened(_ path: ByteString, type: WriteType = .cacheThrough) async throws -> StagedFile {
        let attributes = try #require(try await memory.lookup(path))
        let version = try #require(attributes.version)
        let id = CachedObjectID(
            store: faults.identity.text, key: path, version: version.bytes, size: attributes.size)
        let source = StagingSource(store: faults, path: path, version: version)
        return try await service.create(
            target(path, base: .version(version), type: type), contents: .object(cache.object(id, source: source)))
    }

    func write(_ bytes: [UInt8], to file: StagedFile, at offset: UInt64 = 0) throws {
        let descriptor = try file.descriptor()
        try bytes.withUnsafeBytes { try descriptor.write($0, at: offset) }
    }

    func contents(of file: StagedFile) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Int(try file.status().size))
        let count = try bytes.withUnsafeMutableBytes { try file.descriptor().read(into: $0, at: 0) }
        return Array(bytes.prefix(count))
    }

    /// The object's bytes; nil when there is none.
    func object(_ path: ByteString) -> [UInt8]? { memory.state.withLock { $0.objects[path]?.bytes } }

    /// Uploads that the store still has under way.
    var uploads: Int { memory.writes.withLock { $0.uploads.count } }

    /// The store is one that knows damaged bytes by their MD5 alone.
    func wantMD5() { memory.writes.withLock { $0.wantsMD5 = true } }
    /// What the store got with its MD5.
    var bodiesWithMD5: Int { memory.writes.withLock { $0.bodiesWithMD5 } }

    var stagingFiles: [UInt64] { cache.stagingFiles().map(\.number) }

    /// Looks at growing files, and returns when what was begun for them has ended.
    func uploadAhead(_ file: StagedFile) async {
        service.poll()
        while true {
            if let beginning = file.state.withLock({ $0.beginning }) {
                await beginning.value
            } else if let task = file.state.withLock({ $0.upload })?.state.withLock({ $0.running.values.first }) {
                await task.value
            } else {
                return
            }
        }
    }

    /// Returns when no upload is under way or queued.
    func settle() async {
        while true {
            let files = service.state.withLock { Array($0.files.values) }
            let flights = files.compactMap { file in file.state.withLock { $0.flight?.task } }
            if flights.isEmpty, service.state.withLock({ $0.queue.isEmpty && $0.running == 0 }) { return }
            for flight in flights { _ = await flight.value }
            await Task.yield()
        }
    }

    private static func removeTree(_ path: String) {
        for name in (try? TierDirectory.names(in: path)) ?? [] {
            let child = path + "/" + name
            if (try? FileStatus(of: child, flags: AT_SYMLINK_NOFOLLOW).isDirectory) == true {
                removeTree(child)
            } else {
                unlink(child)
            }
        }
        rmdir(path)
    }
}

/// Reads blocks from a store.
private struct StagingSource: BlockSource {
    let store: any UnderStore
    let path: ByteString
    let version: ObjectVersion

    func fetch(_ range: Range<UInt64>, into sink: any BlockSink) async throws {
        try await store.read(path, range: range, expecting: version, into: Adapter(sink: sink))
    }

    private struct Adapter: ReadSink {
        let sink: any BlockSink
        func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws { try sink.receive(bytes, at: offset) }
    }
}

/// A clock that stands still until the test lets what is due happen.
final class ManualClock: StagingClock {
    private let due = Lock<[(delay: Duration, body: @Sendable () -> Void)]>([])

    func now() -> UInt64 { 0 }
    func schedule(after delay: Duration, _ body: @escaping @Sendable () -> Void) {
        due.withLock { $0.append((delay, body)) }
    }

    /// Lets the pauses after failed uploads end.
    func endPauses() { fire { $0 >= .seconds(1) && $0 < .seconds(500) } }
    /// Lets the time end in which a mount may come back for its files.
    func endGrace() { fire { $0 >= .seconds(500) } }
    var pauses: Int { due.withLock { $0.count { $0.delay >= .seconds(1) && $0.delay < .seconds(500) } } }

    private func fire(_ matching: (Duration) -> Bool) {
        let bodies = due.withLock { due in
            defer { due.removeAll { matching($0.delay) } }
            return due.filter { matching($0.delay) }.map(\.body)
        }
        for body in bodies { body() }
    }
}

/// What the service told of its files, in order.
final class EventLog: StagingEvents {
    private let entries = Lock<[String]>([])

    var all: [String] { entries.withLock { $0 } }
    func committed(_ file: StagedFile, _ attributes: ObjectAttributes) { add("committed \(file.path)") }
    func conflicted(_ file: StagedFile, _ reason: String) { add("conflicted \(file.path)") }
    func failed(_ file: StagedFile, _ error: StoreError) { add("failed \(file.path) \(error.kind)") }
    func finished(_ file: StagedFile) { add("finished \(file.path)") }
    private func add(_ entry: String) { entries.withLock { $0.append(entry) } }
}

/// Bytes that differ at every place and with every seed.
func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 8)
    while bytes.count < count {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        withUnsafeBytes(of: state) { bytes.append(contentsOf: $0) }
    }
    return Array(bytes.prefix(count))
}

/// Records an issue unless `body` fails with `errno`.
func expectErrno(
    _ errno: Errno, sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Void
) async {
    do {
        try await body()
        Issue.record("succeeded, and should have failed with \(errno)", sourceLocation: sourceLocation)
    } catch {
        let actual = (error as? CoordinationError)?.errno
        #expect(actual == errno, "\(error)", sourceLocation: sourceLocation)
    }
}

extension StagingBench {
    /// Lets a file grow from front to back, as a writer does, while the service looks at it.
    func grow(_ file: StagedFile, to size: Int) async throws {
        await uploadAhead(file)
        let start = Int(try file.status().size)
        try write(pattern(size - start, seed: UInt64(size)), to: file, at: UInt64(start))
        await uploadAhead(file)
    }

    /// Returns when uploads that nobody needs have been dropped.
    func abortsEnd() async {
        while (try? journal.abandonedUploads().isEmpty) == false { await Task.yield() }
    }
}
