import BlockMaps
import Glibc
import Logging
import Platform
import Synchronization

@testable import BlockCaching

/// A directory of its own for one test; removed with everything in it when the object goes.
final class TemporaryDirectory: Sendable {
    let path: String

    init(under parent: String = "/tmp") {
        var template = Array((parent + "/larder-cache-test.XXXXXX").utf8CString)
        guard let made = mkdtemp(&template) else { preconditionFailure("mkdtemp: errno \(errno)") }
        path = String(cString: made)
    }

    deinit { removeTree(path) }
}

func removeTree(_ path: String) {
    for name in (try? TierDirectory.names(in: path)) ?? [] {
        let child = path + "/" + name
        if unlink(child) != 0 { removeTree(child) }
    }
    rmdir(path)
}

/// Copies a directory as a kill would leave it: what was written is there, whoever has it open notices nothing.
func copyTree(_ from: String, _ to: String) throws {
    mkdir(to, 0o700)
    for name in try TierDirectory.names(in: from) {
        let status = try FileStatus(of: from + "/" + name)
        if status.isDirectory {
            try copyTree(from + "/" + name, to + "/" + name)
        } else {
            let source = try Descriptor.open(from + "/" + name, O_RDONLY)
            let target = try Descriptor.open(to + "/" + name, O_WRONLY | O_CREAT | O_TRUNC)
            var bytes = [UInt8](repeating: 0, count: Int(status.size))
            let count = try bytes.withUnsafeMutableBytes { try source.read(into: $0, at: 0) }
            try bytes[..<count].withUnsafeBytes { try target.write($0, at: 0) }
        }
    }
}

/// The files below a directory, by their paths.
func files(under path: String) -> [String] {
    ((try? TierDirectory.names(in: path)) ?? []).flatMap { name -> [String] in
        let child = path + "/" + name
        return (try? FileStatus(of: child).isDirectory) == true ? files(under: child) : [child]
    }
}

/// Random bytes of a prime period, so that no two blocks of an object are alike.
private let pattern: [UInt8] = {
    var random = SeededRandom(seed: 2026)
    let period = (0..<65_521).map { _ in UInt8.random(in: 0...255, using: &random) }
    return period + period
}()

/// The bytes of an object at a range: different for every object and place.
func expectedBytes(_ seed: UInt64, _ range: Range<UInt64>) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
        var offset = range.lowerBound
        while count < range.count {
            let phase = Int((offset + seed * 7919) % 65_521)
            let step = min(range.count - count, 65_521)
            pattern.withUnsafeBytes { bytes in
                _ = memcpy(buffer.baseAddress! + count, bytes.baseAddress! + phase, step)
            }
            count += step
            offset += UInt64(step)
        }
    }
}

struct PlannedFailure: Error, Hashable { let number: Int }

/// A store of one object that counts what it is asked for, can hold fetches back, and fails by plan.
final class CountingSource: BlockSource {
    struct State {
        var ranges: [Range<UInt64>] = []
        var delivered: [UInt64: Int] = [:]  // by block of 4 KiB
        var running = 0
        var failures: [Int: Int] = [:]  // bytes delivered before the failure, by number of the fetch
        var isHeld = false
        var held: [CheckedContinuation<Void, Never>] = []
        var arrivals: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
        var cancelled = 0
    }

    let seed: UInt64
    let chunk: Int
    let state = Lock(State())

    init(seed: UInt64 = 1, chunk: Int = 16 << 10) {
        self.seed = seed
        self.chunk = chunk
    }

    var ranges: [Range<UInt64>] { state.withLock { $0.ranges } }
    var fetchedBytes: UInt64 { ranges.reduce(0) { $0 + UInt64($1.count) } }

    /// Fetches from now on wait before their first byte, until `letGo`.
    func hold() { state.withLock { $0.isHeld = true } }
    func letGo() {
        let held = state.withLock { state in
            state.isHeld = false
            defer { state.held = [] }
            return state.held
        }
        for continuation in held { continuation.resume() }
    }

    /// Fetch number `number` (from 0) throws after `bytes`.
    func fail(fetch number: Int, after bytes: Int = 0) { state.withLock { $0.failures[number] = bytes } }

    /// Returns when `count` fetches have begun since the start.
    func begun(_ count: Int) async {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                if state.ranges.count >= count { return true }
                state.arrivals.append((count, continuation))
                return false
            }
            if isOver { continuation.resume() }
        }
    }

    func fetch(_ range: Range<UInt64>, into sink: any BlockSink) async throws {
        let (number, arrived) = state.withLock { state in
            state.ranges.append(range)
            let arrived = state.arrivals.filter { $0.count <= state.ranges.count }
            state.arrivals.removeAll { $0.count <= state.ranges.count }
            return (state.ranges.count - 1, arrived)
        }
        for arrival in arrived { arrival.continuation.resume() }
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let passes = state.withLock { state in
                if state.isHeld { state.held.append(continuation) }
                return !state.isHeld
            }
            if passes { continuation.resume() }
        }
        if Task.isCancelled {
            state.withLock { $0.cancelled += 1 }
            throw CancellationError()
        }
        let failure = state.withLock { $0.failures[number] }
        let end = failure.map { range.lowerBound + UInt64($0) } ?? range.upperBound
        var offset = range.lowerBound
        while offset < end {
            let next = min(offset + UInt64(chunk), end)
            try expectedBytes(seed, offset..<next).withUnsafeBytes { try sink.receive($0, at: offset) }
            offset = next
        }
        if failure != nil { throw PlannedFailure(number: number) }
    }
}

/// A cache in a directory of its own and readers that follow the reader protocol.
struct CacheBench {
    var configuration: CacheConfiguration
    let directory: TemporaryDirectory
    let cache: BlockCache

    init(
        quota: UInt64 = 64 << 20, blockSize: Int = 16 << 10, in directory: TemporaryDirectory = TemporaryDirectory(),
        _ adjust: (inout CacheConfiguration) -> Void = { _ in }
    ) throws {
        self.directory = directory
        configuration = CacheConfiguration(tiers: [
            TierConfiguration(path: directory.path + "/ssd", kind: .disk, quota: quota)
        ])
        configuration.blockSize = blockSize
        configuration.bootIdentifier = "boot-1"
        configuration.flushInterval = .milliseconds(5)
        configuration.probeInterval = .milliseconds(20)
        adjust(&configuration)
        cache = try BlockCache(configuration: configuration, logger: quietLogger())
    }
}

func quietLogger() -> Logger {
    var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    logger.logLevel = .critical
    return logger
}

func objectID(_ name: String = "object", size: UInt64) -> CachedObjectID {
    CachedObjectID(store: "memory://test", key: ByteString(name), version: "v1", size: size)
}

/// Reads a range as a mount process does: loan, map, epoch, pread, epoch; asks for what is absent; past the cache after
/// too many turns. Returns the bytes.
func readRange(_ object: CachedObject, _ range: Range<UInt64>) async throws -> [UInt8] {
    for _ in 0..<8 {
        let loan: BlockLoan
        do { loan = try object.loan() } catch CacheError.noTier { break }
        if let bytes = try readPresent(loan, range) { return bytes }
        if case .readThrough(let passed) = try await object.ensure(range) { return try read(passed, range) }
        if let bytes = try readPresent(loan, range) { return bytes }
    }
    guard let passed = try await object.readThrough(range) else { return [] }
    return try read(passed, range)
}

func readPresent(_ loan: BlockLoan, _ range: Range<UInt64>) throws -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: range.count)
    guard let map = loan.map else {
        _ = try bytes.withUnsafeMutableBytes { try loan.data.read(into: $0, at: range.lowerBound) }
        return bytes
    }
    let reader = try BlockMapReader(map)
    let epoch = reader.epoch()
    guard reader.isPresent(offset: range.lowerBound, length: range.count) else { return nil }
    let count = try bytes.withUnsafeMutableBytes { try loan.data.read(into: $0, at: range.lowerBound) }
    return count == range.count && reader.isUnchanged(since: epoch) ? bytes : nil
}

func read(_ passed: ReadThrough, _ range: Range<UInt64>) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    let count = try bytes.withUnsafeMutableBytes {
        try passed.descriptor.read(into: $0, at: range.lowerBound - passed.offset)
    }
    return Array(bytes[..<count])
}
