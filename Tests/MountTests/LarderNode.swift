import Foundation
import Glibc
import Platform
import TestSupport
import Testing

/// A machine of its own as far as Larder can tell: home, runtime, state and cache directories, and mount points, below one
/// temporary directory. Whatever it starts is gone afterwards: a guard cleans up even when the tests are killed.
final class LarderNode: Sendable {
    struct Result: Sendable {
        let code: Int32
        let output: String
    }

    let directory: TemporaryDirectory
    private let environment: [String: String]
    private let mounts = Lock<[String]>([])
    /// The guard lives until this end of its pipe is closed, by us or by the kernel.
    private let guardPipe: Descriptor
    private let guardPID: Int32

    /// All processes of a node carry this variable, by which they are found.
    private static let marker = "LARDER_TEST_NODE"

    /// - Parameter parent: where its directory is made; nil for the temporary one.
    init(environment extra: [String: String] = [:], in parent: String? = nil) throws {
        directory = try TemporaryDirectory(in: parent)
        let root = directory.path
        for name in ["run", "state", "cache", "home", "mnt"] { try directory.makeDirectory(name) }
        var environment = [
            "XDG_RUNTIME_DIR": "\(root)/run", "XDG_STATE_HOME": "\(root)/state", "XDG_CACHE_HOME": "\(root)/cache",
            "HOME": "\(root)/home", Self.marker: root,
            // No test may find credentials, or wait for an instance's, on the machine it runs on.
            "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "\(root)/home/no-config",
            "AWS_SHARED_CREDENTIALS_FILE": "\(root)/home/no-credentials",
        ]
        environment.merge(extra) { $1 }
        self.environment = environment
        let (reading, writing) = try Descriptor.pipe()
        guardPipe = writing
        guardPID = try ChildProcess.start(
            "/bin/sh", arguments: ["sh", "-c", Self.guardScript, "guard", root],
            environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"], descriptors: .init(input: reading),
            newSession: true,
            directory: "/")
    }

    private static let guardScript = """
        cat >/dev/null
        awk -v root="$1/" 'index($5, root) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r mount; do
            umount -l "$mount"
        done
        grep -lzsxF "LARDER_TEST_NODE=$1" /proc/[0-9]*/environ | cut -d/ -f3 | xargs -r kill -9
        """

    /// Credentials of a test server, as a user would have them.
    static func credentials(of server: any S3TestServer) -> [String: String] {
        [
            "AWS_ACCESS_KEY_ID": server.credentials.accessKeyID,
            "AWS_SECRET_ACCESS_KEY": server.credentials.secretAccessKey,
        ]
    }

    // MARK: Running programs

    /// The binary that was built together with these tests, or `$LARDER_BINARY`.
    static func binary() throws -> String {
        if let named = getenv("LARDER_BINARY") { return String(cString: named) }
        let own = ChildProcess.currentProgram()
        for directory in [own[..<(own.lastIndex(of: "/") ?? own.startIndex)], "\(TestTools.packageRoot)/.build/debug"] {
            let path = "\(directory)/larder"
            if access(path, X_OK) == 0 { return path }
        }
        throw TestSetupError("there is no larder binary beside the tests: build it, or set LARDER_BINARY")
    }

    func larder(_ arguments: [String], environment extra: [String: String] = [:]) async throws -> Result {
        let process = try await start(arguments, environment: extra)
        return Result(code: await process.wait(), output: process.output)
    }

    func larder(_ arguments: String...) async throws -> Result { try await larder(arguments) }

    /// Runs a program with the environment of the node, whatever comes of it.
    func outcome(_ program: String, _ arguments: [String]) async throws -> Result {
        let process = try await TestProcess.start(
            TestTools.path(program), arguments, environment: environment, directory: directory.path)
        return Result(code: await process.wait(), output: process.output)
    }

    /// Starts the binary and does not wait.
    func start(_ arguments: [String], environment extra: [String: String] = [:]) async throws -> TestProcess {
        try await TestProcess.start(
            Self.binary(), arguments, environment: environment.merging(extra) { $1 }, directory: directory.path)
    }

    /// Starts another program on the node and does not wait.
    func startProgram(_ program: String, _ arguments: [String]) async throws -> TestProcess {
        try await TestProcess.start(
            TestTools.path(program), arguments, environment: environment, directory: directory.path)
    }

    /// Runs another program on the node; throws when it fails.
    @discardableResult
    func run(_ program: String, _ arguments: String...) async throws -> String {
        try await TestProcess.run(
            TestTools.path(program), arguments, environment: environment, directory: directory.path)
    }

    // MARK: Mounts

    /// A new empty mount point.
    func makeMountPoint() throws -> String {
        let number = mounts.withLock { mounts in
            mounts.append("mnt/\(mounts.count)")
            return mounts.count - 1
        }
        try directory.makeDirectory("mnt/\(number)")
        return directory.file("mnt/\(number)")
    }

    /// Mounts and returns the mount point.
    @discardableResult
    func mount(_ source: String, _ options: String...) async throws -> String { try await mountList(source, options) }

    func mount(_ admin: S3Admin, _ options: String...) async throws -> String {
        try await mountList("s3://\(admin.bucket)", ["--endpoint", admin.endpoint] + options)
    }

    func mount(_ admin: S3Admin, options: [String]) async throws -> String {
        try await mountList("s3://\(admin.bucket)", ["--endpoint", admin.endpoint] + options)
    }

    /// Mounts again where the process of a mount has died.
    func remount(_ admin: S3Admin, at path: String, options: [String]) async throws {
        try await run("umount", "-l", path)
        _ = try await mountList("s3://\(admin.bucket)", ["--endpoint", admin.endpoint] + options, at: path)
    }

    private func mountList(
        _ source: String, _ options: [String], at existing: String? = nil
    ) async throws -> String {
        let path = try existing ?? makeMountPoint()
        let result = try await larder(["mount", source, path] + options)
        guard result.code == 0 else {
            throw TestSetupError("larder mount \(source) ended with \(result.code): \(result.output)\n\(logs())")
        }
        return path
    }

    func umount(_ path: String) async throws {
        let result = try await larder("umount", path)
        guard result.code == 0 else {
            throw TestSetupError("larder umount \(path) ended with \(result.code): \(result.output)")
        }
    }

    /// Kills what serves a mount and what would start a successor.
    func killWhole(_ mount: NodeStatus.Mount) async throws {
        // The supervisor first, so that it starts nothing.
        for pid in [mount.supervisor, mount.pid].compactMap({ $0 }) {
            try SignalWatch.send(SIGKILL, to: pid)
            await becomes("process \(pid) is gone") { !ChildProcess.isRunning(pid) }
        }
    }

    /// The Larder mounts of this node that the kernel has.
    func mounted() -> [String] {
        MountTable.entries().map(\.mountPoint).filter { $0.hasPrefix(directory.path + "/") }
    }

    // MARK: The coordinator

    var socket: String { directory.file("run/larder/coordinator.sock") }

    func status() async throws -> NodeStatus {
        let result = try await larder("status", "--json")
        guard result.code == 0 else {
            throw TestSetupError("larder status ended with \(result.code): \(result.output)")
        }
        return try JSONDecoder().decode(NodeStatus.self, from: Data(result.output.utf8))
    }

    /// All that Larder has logged, for the message of a failing test.
    func logs() -> String {
        let directory = directory.file("state/larder/log")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return names.sorted().map {
            "--- \($0)\n" + ((try? String(contentsOfFile: "\(directory)/\($0)", encoding: .utf8)) ?? "")
        }
        .joined(separator: "\n")
    }

    // MARK: The end

    /// Processes of this node that run, as "pid name".
    func processes() -> [(pid: Int32, name: String)] {
        let entry = "\(Self.marker)=\(directory.path)"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { Int32($0) }.filter { pid in
            guard ChildProcess.isRunning(pid), let text = Machine.contents(of: "/proc/\(pid)/environ") else {
                return false
            }
            return text.split(separator: "\0").contains(Substring(entry))
        }.map { ($0, Machine.firstLine(of: "/proc/\($0)/comm") ?? "?") }
    }

    /// Unmounts everything and ends everything. What does not end by itself is a failure of the test.
    func finish(sourceLocation: SourceLocation) async {
        for path in mounted().reversed() {
            let result = try? await larder("umount", path)
            if result?.code != 0 {
                Issue.record(
                    "larder umount \(path): \(result?.output ?? "did not start")", sourceLocation: sourceLocation)
                _ = try? await larder("umount", "--lazy", path)
            }
        }
        // The coordinator would leave by itself, after its grace.
        for (pid, name) in processes() where name.hasPrefix("larder") { try? SignalWatch.send(SIGTERM, to: pid) }
        await becomes("all processes of the node have ended", sourceLocation: sourceLocation) {
            self.processes().isEmpty
        }
        #expect(mounted().isEmpty, sourceLocation: sourceLocation)
    }

    deinit {
        // The pipe is closed after this; then the guard cleans up what `finish` left, and ends.
        let pid = guardPID
        startThread(named: "test-guard") { _ = ChildProcess.wait(for: pid) }
    }
}

/// Waits for something that happens in other processes, which give no sign.
func becomes(
    _ what: String, within limit: Duration = .seconds(60), sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
) async {
    let begin = ContinuousClock.now
    while (try? await condition()) != true {
        guard ContinuousClock.now - begin < limit else {
            Issue.record("not within \(limit): \(what)", sourceLocation: sourceLocation)
            return
        }
        try? await Task.sleep(for: .milliseconds(20))
    }
}

/// Runs a test on a node of its own, and cleans up whatever the test did.
func withNode(
    _ environment: [String: String] = [:], in parent: String? = nil, sourceLocation: SourceLocation = #_sourceLocation,
    _ body: (LarderNode) async throws -> Void
) async throws {
    let node = try LarderNode(environment: environment, in: parent)
    do { try await body(node) } catch {
        Issue.record("\(error)\n\(node.logs())", sourceLocation: sourceLocation)
    }
    await node.finish(sourceLocation: sourceLocation)
}

/// Blocking calls on a mount must not run on the cooperative pool.
func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        startThread(named: "test") { continuation.resume(with: Swift.Result { try body() }) }
    }
}

/// What `larder status --json` says, as far as the tests read it.
struct NodeStatus: Decodable, Sendable {
    struct Coordinator: Decodable, Sendable { let pid: Int32 }
    struct Tier: Decodable, Sendable { let kind, path, state: String; let usedBytes, files, quotaBytes: UInt64 }
    struct Cache: Decodable, Sendable { let tiers: [Tier] }
    struct Store: Decodable, Sendable {
        let identity: String
        let requests: [String: UInt64]
        let bytesReceived, errors, retries: UInt64
    }
    struct OpenFile: Decodable, Sendable { let path, mode: String; let opens: UInt32 }
    struct Mount: Decodable, Sendable {
        let mountpoint, source: String
        let pid: Int32
        let passthrough: Bool
        let openFiles: [OpenFile]
        let generation: UInt64
        let resumable, waiting: Bool
        let supervisor: Int32?
    }
    /// A file that its store does not have yet as it is here.
    struct PendingFile: Decodable, Sendable {
        let store, path, state: String
        let bytes: UInt64
        let lastError: String?
    }

    let coordinator: Coordinator
    let cache: Cache
    let stores: [Store]
    let mounts: [Mount]
    let pending: [PendingFile]
    let conflicts: UInt64
    let notes: [String]

    /// Requests to all stores together.
    var requests: UInt64 { stores.reduce(0) { $0 + $1.requests.values.reduce(0, +) } }
    func requests(_ kind: String) -> UInt64 { stores.reduce(0) { $0 + ($1.requests[kind] ?? 0) } }
}
