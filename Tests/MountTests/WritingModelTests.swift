import Glibc
import Platform
import TestSupport
import Testing

/// Two mounts of one bucket beside a plain directory: each change goes through one of them, and is looked at through the
/// other before the next.
@Suite struct WritingModelTests {
    @Test(arguments: TestedServer.allCases, [1, 2, 3] as [UInt64])
    func whatOneMountChangesTheOtherShowsAtOnce(server: TestedServer, seed: UInt64) async throws {
        try await withWritableMount(try await server.get()) { node, mount, bucket in
            let second = try await node.mount(bucket, options: [])
            try node.directory.makeDirectory("reference")
            let reference = node.directory.file("reference")
            var model = TwoMountModel(mounts: [mount, second], reference: reference, seed: seed)
            for _ in 0..<4 {
                let before = model
                model = try await onThread {
                    var model = before
                    for _ in 0..<40 where model.faults.isEmpty { model.step() }
                    return model
                }
                let expected = try await WrittenTree.read(reference)
                for mount in [mount, second] {
                    model.faults += try await WrittenTree.read(mount).differences(from: expected)
                }
                #expect(model.faults.isEmpty, "seed \(seed); the last operations: \(model.log.suffix(12))")
                if !model.faults.isEmpty { return }
            }
            try await expectPlainLayout(bucket, of: second)
        }
    }

    /// The kernel of each mount has what it knew before, also of names that were not there.
    @Test func aNameThatWasMissedIsSeenAtOnceWhenTheOtherMountMakesIt() async throws {
        try await withWritableMount(
            try await MotoServer.shared.get(), ["--metadata-ttl", "1h", "--negative-ttl", "1h"]
        ) { node, first, bucket in
            let second = try await node.mount(bucket, "--metadata-ttl", "1h", "--negative-ttl", "1h")
            for round in 0..<20 {
                let (from, to) = round % 2 == 0 ? (first, second) : (second, first)
                let name = "f\(round)"
                #expect(try await errorNumber { access("\(to)/\(name)", F_OK) } == ENOENT)
                try await node.shell(#"echo "$2" > "$1""#, "\(from)/\(name)", name)
                #expect(try await onThread { try SampleBytes.whole("\(to)/\(name)") } == Array("\(name)\n".utf8))
                #expect(try await errorNumber { rename("\(to)/\(name)", "\(to)/moved\(round)") } == 0)
                #expect(try await errorNumber { access("\(from)/\(name)", F_OK) } == ENOENT)
                #expect(try await errorNumber { access("\(from)/moved\(round)", F_OK) } == 0)
                #expect(try await errorNumber { truncate("\(from)/moved\(round)", 1) } == 0)
                #expect(try await onThread { try SampleBytes.whole("\(to)/moved\(round)") } == Array("f".utf8))
            }
        }
    }
}

/// Blocking; all state is in the value.
private struct TwoMountModel: Sendable {
    private let mounts: [String]
    private let reference: String
    private var random: SeededGenerator
    var faults: [String] = []
    var log: [String] = []

    init(mounts: [String], reference: String, seed: UInt64) {
        self.mounts = mounts
        self.reference = reference
        random = SeededGenerator(seed: seed)
    }

    private mutating func number(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

    /// Few names, so that they collide, as files and as directories.
    private mutating func name() -> String {
        (0..<number(1..<4)).map { _ in ["a", "b", "c"][number(0..<3)] }.joined(separator: "/")
    }

    mutating func step() {
        let (path, other) = (name(), name())
        let (kind, offset, length) = (number(0..<13), number(0..<200_000), number(0..<60_000))
        let bytes = random.bytes(length)
        let chosen = number(0..<mounts.count)
        let operation: (String) -> CInt
        let what: String
        switch kind {
        case 0, 1, 2: (what, operation) = ("write \(path) \(length)", { put($0 + path, bytes, O_CREAT | O_TRUNC) })
        case 3: (what, operation) = ("create \(path)", { put($0 + path, bytes, O_CREAT | O_EXCL) })
        case 4: (what, operation) = ("append \(path) \(length)", { put($0 + path, bytes, O_APPEND | O_CREAT) })
        case 5: (what, operation) = ("write \(path) at \(offset)", { put($0 + path, bytes, O_CREAT, at: offset) })
        case 6: (what, operation) = ("truncate \(path) \(offset)", { truncate($0 + path, offset) < 0 ? errno : 0 })
        case 7: (what, operation) = ("unlink \(path)", { unlink($0 + path) < 0 ? errno : 0 })
        case 8, 9: (what, operation) = ("mkdir \(path)", { mkdir($0 + path, 0o755) < 0 ? errno : 0 })
        case 10: (what, operation) = ("rmdir \(path)", { rmdir($0 + path) < 0 ? errno : 0 })
        default:
            (what, operation) = ("rename \(path) \(other)", { rename($0 + path, $0 + other) < 0 ? errno : 0 })
        }
        log.append("\(chosen): \(what)")
        let expected = operation(reference + "/")
        let got = operation(mounts[chosen] + "/")
        // Where two errors are true at once, POSIX leaves open which is told.
        if (expected == 0) != (got == 0) {
            faults.append("\(what): errno \(got), not \(expected)")
        }
        for name in [path, other] {
            for (index, mount) in mounts.enumerated() {
                let (shown, right) = (Self.look("\(mount)/\(name)"), Self.look("\(reference)/\(name)"))
                if shown != right {
                    faults.append("\(what) through \(chosen): \(name) through \(index) is \(shown), not \(right)")
                }
            }
        }
    }

    private static func look(_ path: String) -> String {
        guard let status = try? FileStatus(of: path) else { return "absent" }
        guard status.isRegularFile else { return "a directory" }
        guard let bytes = try? SampleBytes.whole(path) else { return "unreadable" }
        return "\(status.size) bytes, \(bytes.withUnsafeBytes { CRC32C.of($0) })"
    }
}

/// open, write, close: the first errno.
private func put(_ path: String, _ bytes: [UInt8], _ flags: CInt, at offset: Int = 0) -> CInt {
    let file = open(path, O_WRONLY | flags, 0o644)
    guard file >= 0 else { return errno }
    var error: CInt = 0
    if offset > 0, lseek(file, offset, SEEK_SET) < 0 { error = errno }
    var done = 0
    while error == 0, done < bytes.count {
        let count = bytes.withUnsafeBytes { write(file, $0.baseAddress! + done, bytes.count - done) }
        if count < 0 { error = errno } else { done += count }
    }
    if close(file) < 0, error == 0 { error = errno }
    return error
}
