import CLinux
import Glibc
import Platform
import TestSupport

/// Random operations on one file beside the bytes it should have, in the manner of the file system exerciser fsx: every
/// read, size and mapping is compared with the reference, and the whole file at the end.
struct FileExerciser {
    struct Options: Sendable {
        var operations = 10_000
        /// The file never gets longer, in bytes.
        var longest = 512 << 10
        /// The longest single read or write.
        var longestStep = 64 << 10
        /// Left out on file systems that have none of it: `fallocate` with these modes gives EOPNOTSUPP.
        var canPunch = true
        var canZero = true
        var canMapShared = true
        /// The same file seen through other mounts, which read it, cut it off, and take turns at having it open.
        var otherPaths: [String] = []
        /// Called now and then while the file is closed, e.g. to put the cache under pressure.
        var disturb: @Sendable () -> Void = {}
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private enum Operation: CaseIterable {
        case read, write, mapRead, mapWrite, truncate, punch, zero, allocate, copy, reopen, synchronize, append
        case readElsewhere
    }

    /// By which the file is open; one of `paths`.
    private var path: String
    private let paths: [String]
    private let options: Options
    private let seed: UInt64
    private var random: SeededGenerator
    private var bytes: [UInt8] = []
    private var file: Descriptor
    private var log: [String] = []
    private var number = 0

    /// - Parameter path: of a file that does not exist yet.
    init(path: String, seed: UInt64, options: Options = Options()) throws {
        self.path = path
        paths = [path] + options.otherPaths
        self.seed = seed
        self.options = options
        random = SeededGenerator(seed: seed)
        file = try Descriptor.open(path, O_RDWR | O_CREAT | O_EXCL, mode: 0o644)
    }

    /// Runs all operations. The error names the seed and the last of them.
    mutating func run() throws {
        for _ in 0..<options.operations { try step() }
        try reopen()
        try compare(0..<bytes.count, "the whole file at the end")
    }

    private mutating func step() throws {
        number += 1
        guard let operation = Operation.allCases.randomElement(using: &random) else { return }
        switch operation {
        case .read: try compare(range(within: bytes.count), "read")
        case .mapRead: try mapRead()
        case .write:
            let range = range(within: options.longest)
            // A write of nothing does not grow a file.
            if !range.isEmpty { try write(range, note("write", range)) }
        case .append:
            let count = Int.random(in: 1...4096, using: &random)
            if bytes.count + count <= options.longest {
                let range = bytes.count..<bytes.count + count
                try write(range, note("append", range))
            }
        case .mapWrite: try mapWrite()
        case .truncate: try truncate()
        case .punch where options.canPunch: try allocate(punchHole | keepSize, "punch")
        case .zero where options.canZero:
            try allocate(Bool.random(using: &random) ? zeroRange : zeroRange | keepSize, "zero")
        case .allocate: try allocate(Bool.random(using: &random) ? 0 : keepSize, "fallocate")
        case .copy: try copy()
        case .reopen:
            // Rarer than the rest: it is slow, and what is open finds other faults.
            if Int.random(in: 0..<4, using: &random) == 0 { try reopen() }
        case .synchronize:
            let what = note("fsync", 0..<0)
            if fsync(file.raw) != 0 { throw failed(what, errno) }
        case .readElsewhere where paths.count > 1: try readElsewhere()
        case .punch, .zero, .readElsewhere: break
        }
        let size = try self.size()
        if size != bytes.count { throw wrong("the size is \(size), not \(bytes.count)") }
    }

    // MARK: Operations

    private mutating func write(_ range: Range<Int>, _ what: String) throws {
        let piece = random.bytes(range.count)
        let error = file.put(piece, at: range.lowerBound)
        if error != 0 { throw failed(what, error) }
        grow(to: range.upperBound)
        bytes.replaceSubrange(range, with: piece)
    }

    private mutating func mapRead() throws {
        let range = range(within: bytes.count)
        if range.isEmpty { return }
        let what = note("mapread", range)
        guard let map = Mapping(file, bytes.count, PROT_READ, MAP_SHARED) else { throw failed(what, errno) }
        let got = UnsafeRawBufferPointer(start: map.start + range.lowerBound, count: range.count)
        try compare(Array(got), range, what)
    }

    private mutating func mapWrite() throws {
        guard options.canMapShared else { return }
        let range = range(within: options.longest)
        if range.isEmpty { return }
        let what = note("mapwrite", range)
        if range.upperBound > bytes.count {
            if ftruncate(file.raw, range.upperBound) != 0 { throw failed(what, errno) }
            grow(to: range.upperBound)
        }
        guard let map = Mapping(file, bytes.count, PROT_READ | PROT_WRITE, MAP_SHARED) else {
            throw failed(what, errno)
        }
        let piece = random.bytes(range.count)
        (map.start + range.lowerBound).copyMemory(from: piece, byteCount: piece.count)
        bytes.replaceSubrange(range, with: piece)
        if Bool.random(using: &random) {
            let error = map.synchronize()
            if error != 0 { throw failed("msync after \(what)", error) }
        }
    }

    private mutating func truncate() throws {
        let size = Int.random(in: 0...options.longest, using: &random)
        let what = note("truncate", 0..<size)
        if Bool.random(using: &random) {
            let name = paths.randomElement(using: &random) ?? path
            // Another mount cannot know what this kernel has not written back of a map.
            if name != path, fsync(file.raw) != 0 { throw failed("fsync before \(what)", errno) }
            if Glibc.truncate(name, size) != 0 { throw failed("\(what) of \(name)", errno) }
        } else if ftruncate(file.raw, size) != 0 {
            throw failed(what, errno)
        }
        if size < bytes.count { bytes.removeLast(bytes.count - size) } else { grow(to: size) }
    }

    private mutating func allocate(_ mode: CInt, _ name: String) throws {
        let range = range(within: options.longest)
        if range.isEmpty { return }
        let what = note(name, range)
        let result = larder_fallocate(file.raw, mode, UInt64(range.lowerBound), UInt64(range.count))
        if result != 0 { throw failed(what, -result) }
        if mode & keepSize == 0 { grow(to: range.upperBound) }
        if mode & (punchHole | zeroRange) != 0 {
            for index in range.clamped(to: 0..<bytes.count) { bytes[index] = 0 }
        }
    }

    private mutating func copy() throws {
        let source = range(within: bytes.count)
        if source.isEmpty { return }
        let place = Int.random(in: 0...(options.longest - source.count), using: &random)
        let target = place..<place + source.count
        if target.overlaps(source) { return }
        let what = note("copy to \(place) of", source)
        var (from, to) = (Int64(source.lowerBound), Int64(place))
        while from < source.upperBound {
            let count = RangeCopy.call(file.raw, &from, file.raw, &to, source.upperBound - Int(from), 0)
            if count < 0 { throw failed(what, errno) }
            if count == 0 { throw wrong("\(what) stopped at \(from)") }
        }
        let piece = Array(bytes[source])
        grow(to: target.upperBound)
        bytes.replaceSubrange(target, with: piece)
    }

    private mutating func reopen() throws {
        _ = note("reopen", 0..<0)
        // Closed first: what a write-back at the last close gets wrong shows only then.
        let last = dup(file.raw)
        file = try Descriptor.open("/dev/null", O_RDONLY)
        if close(last) != 0 { throw failed("close", errno) }
        options.disturb()
        path = paths.randomElement(using: &random) ?? path
        file = try Descriptor.open(path, O_RDWR)
        posix_fadvise(file.raw, 0, 0, CInt(POSIX_FADV_DONTNEED))
        try compare(0..<min(bytes.count, 4096), "the start after reopening")
    }

    /// Reads through another mount what is being written through this one.
    private mutating func readElsewhere() throws {
        guard let name = paths.filter({ $0 != path }).randomElement(using: &random) else { return }
        let range = range(within: bytes.count)
        let what = note("read of \(name)", range)
        // Writes are seen at once; what was written to a map when it is written back.
        if fsync(file.raw) != 0 { throw failed("fsync before \(what)", errno) }
        let other = try Descriptor.open(name, O_RDONLY)
        guard let size = other.size, size == bytes.count else {
            throw wrong("\(what): the size is \(other.size ?? -1)")
        }
        guard let got = other.bytes(range.count, at: range.lowerBound), got.count == range.count else {
            throw wrong("\(what) gave too few bytes")
        }
        try compare(got, range, what)
    }

    // MARK: Comparing

    private mutating func compare(_ range: Range<Int>, _ name: String) throws {
        let what = note(name, range)
        var got = [UInt8](repeating: 0, count: range.count)
        let count: Int
        do { count = try got.withUnsafeMutableBytes { try file.read(into: $0, at: UInt64(range.lowerBound)) } } catch {
            throw wrong("\(what): \(error)")
        }
        if count != range.count { throw wrong("\(what) gave \(count) bytes") }
        try compare(got, range, what)
    }

    private func compare(_ got: [UInt8], _ range: Range<Int>, _ what: String) throws {
        guard !got.elementsEqual(bytes[range]) else { return }
        let wrongOnes = range.filter { got[$0 - range.lowerBound] != bytes[$0] }
        let first = wrongOnes.first ?? range.lowerBound
        throw wrong(
            "\(what): \(wrongOnes.count) wrong bytes, the first at \(first): \(got[first - range.lowerBound]), "
                + "not \(bytes[first]); the last at \(wrongOnes.last ?? first)")
    }

    private func size() throws -> Int { Int(try file.status().size) }

    private mutating func range(within end: Int) -> Range<Int> {
        let start = Int.random(in: 0...end, using: &random)
        // Small steps as often as large ones, and now and then to the edge of a page.
        var count = Int.random(in: 0...(Bool.random(using: &random) ? 300 : options.longestStep), using: &random)
        if Int.random(in: 0..<8, using: &random) == 0 { count = (start | 4095) + 1 - start }
        return start..<min(end, start + count)
    }

    private mutating func grow(to size: Int) {
        if size > bytes.count { bytes += [UInt8](repeating: 0, count: size - bytes.count) }
    }

    private mutating func note(_ operation: String, _ range: Range<Int>) -> String {
        let line = "\(number): \(operation) \(range), size \(bytes.count)"
        log.append(line)
        if log.count > 64 { log.removeFirst(32) }
        return line
    }

    private func failed(_ what: String, _ error: CInt) -> Failure { wrong("\(what) failed with \(errnoName(error))") }

    private func wrong(_ what: String) -> Failure {
        Failure(description: "\(what)\nseed \(seed); the last operations:\n\(log.suffix(24).joined(separator: "\n"))")
    }
}

private let keepSize: CInt = 1
private let punchHole: CInt = 2
private let zeroRange: CInt = 0x10
