import Glibc
import Platform
import SystemPackage

@testable import FileSystem
@testable import FuseBridge

/// A real kernel mount of the fake coordinator, served by this process. It is gone when the test is, however it ends.
final class MountFixture: Sendable {
    let coordinator: FakeCoordinator
    let link: CoordinatorLink
    let mount: FuseMount
    let path: String

    static func start(
        _ coordinator: FakeCoordinator, patience: Duration = .seconds(30), readOnly: Bool = true
    ) async throws -> MountFixture {
        try await blocking { try MountFixture(coordinator, patience, readOnly: readOnly) }
    }

    private let guardian: Guardian

    private init(_ coordinator: FakeCoordinator, _ patience: Duration, readOnly: Bool) throws {
        self.coordinator = coordinator
        path = coordinator.newMountPoint()
        mkdir(path, 0o755)
        guardian = try Guardian(path)
        link = try coordinator.link(patience: patience)
        mount = try FuseMount.start(
            options: .init(mountPoint: path, source: "fake://tree,a b", readOnly: readOnly), link: link,
            logger: quietLogger)
    }

    deinit {
        try? mount.unmount(lazily: true)
        link.close()
        rmdir(path)
    }

    /// Runs a Python program with the mount point as `M`. Tests touch a mount only from other processes: this one, if
    /// it crashed while one of its threads waited for itself, could not even be killed.
    func python(_ program: String) async throws -> (code: Int32, output: String) {
        try await shell("python3 - <<'END'\nimport os\nM = os.environ['M']\n\(program)\nEND")
    }

    /// Runs a shell command with the mount point as `$M`, in a process of its own that dies with this one.
    func shell(_ command: String) async throws -> (code: Int32, output: String) {
        let child = try await Shell.start(command, mountPoint: path)
        return (await child.wait(), child.output)
    }
}

/// Unmounts a directory when this process dies: a shell waits for the end of a pipe.
private final class Guardian: Sendable {
    private let alive: Descriptor

    init(_ path: String) throws {
        let (reading, writing) = try Descriptor.pipe()
        alive = writing
        let pid = try ChildProcess.start(
            "/bin/bash",
            arguments: [
                "bash", "-c",
                "trap '' INT TERM HUP; read x && exit; umount -l \"$M\"; rm -rf --one-file-system \"${M%/*}\"",
            ],
            environment: ["M": path, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"], descriptors: .init(input: reading),
            newSession: true)
        startThread(named: "test-guardian") { _ = ChildProcess.wait(for: pid) }
    }

    /// The fixture has unmounted.
    deinit { _ = Array("\n".utf8).withUnsafeBytes { Glibc.write(alive.raw, $0.baseAddress, $0.count) } }
}

/// A shell in a process of its own; killed when this object goes, and by the kernel when the test process dies.
final class Shell: Sendable {
    let pid: Int32
    private let outputFile: Descriptor
    private let exitCode = OneShot<Int32>()

    // PR_SET_PDEATHSIG fires at the end of the thread that started the program, so one that never ends starts them all.
    private static let starter = WorkerPool(name: "test-starter", threads: 1)

    static func start(_ command: String, mountPoint: String) async throws -> Shell {
        let output = try Descriptor.memory(named: "shell")
        let pid = try await starter.run { () throws in
            try ChildProcess.start(
                "/usr/bin/setpriv", arguments: ["setpriv", "--pdeathsig", "KILL", "/bin/bash", "-c", command],
                environment: ["M": mountPoint, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"],
                descriptors: .init(output: output, error: output), newSession: false)
        }
        return Shell(pid, output)
    }

    private init(_ pid: Int32, _ output: Descriptor) {
        self.pid = pid
        outputFile = output
        startThread(named: "test-wait") { [exitCode] in exitCode.set(ChildProcess.wait(for: pid)) }
    }

    deinit { if exitCode.wait(timeout: .zero) == nil { kill(pid, SIGKILL) } }

    func wait() async -> Int32 {
        (try? await blocking { [exitCode] in exitCode.wait() ?? -1 }) ?? -1
    }

    var output: String {
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = (try? bytes.withUnsafeMutableBytes { try outputFile.read(into: $0, at: 0) }) ?? 0
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}

/// Reproducible bytes that differ at every place.
func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var generator = SplitMix(seed)
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        for index in 0..<count { buffer[index] = UInt8(truncatingIfNeeded: generator.next()) }
        filled = count
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

extension FakeCoordinator {
    /// A plain file with these bytes, to compare with; its path.
    func reference(_ bytes: [UInt8]) throws -> String {
        let path = "\(directory)/reference-\(UInt32.random(in: 0 ... .max))"
        let file = try Descriptor.open(path, O_WRONLY | O_CREAT)
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        return path
    }
}

/// Whether `condition` becomes true within half a minute; it is tried off Swift's cooperative pool.
func eventually(_ condition: @escaping @Sendable () -> Bool) async -> Bool {
    (try? await blocking {
        let deadline = MonotonicClock.now() + 30_000_000_000
        while !condition() {
            if MonotonicClock.now() > deadline { return false }
            pause(milliseconds: 5)
        }
        return true
    }) ?? false
}

/// Runs a blocking `body` on a thread of its own: never on Swift's cooperative pool, and not on a shared pool either,
/// where tests that wait could keep out what they wait for.
func blocking<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        startThread(named: "test-blocking") { continuation.resume(with: Swift.Result { try body() }) }
    }
}
