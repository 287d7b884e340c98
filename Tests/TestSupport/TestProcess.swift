import Glibc
import Platform

/// A program that a test has started. It is killed when this object goes, and by the kernel when the test process dies.
package final class TestProcess: Sendable {
    package let pid: Int32
    private let outputFile: Descriptor
    private let exitCode: Lock<Int32?> = Lock(nil)
    private let name: String

    // PR_SET_PDEATHSIG fires when the *thread* that started the program ends, so one that never ends starts them all.
    private static let starter = WorkerPool(name: "test-starter", threads: 1)
    private static let waiters = WorkerPool(name: "test-waiter", threads: 4)

    /// Starts `program` (a path, see `TestTools.path`); its output and error output are captured together.
    /// - Parameter environment: added to this process's own.
    package static func start(
        _ program: String, _ arguments: [String] = [], environment: [String: String] = [:], directory: String? = nil
    ) async throws -> TestProcess {
        let output = try Descriptor.memory(named: "test-output")
        var variables = inheritedEnvironment()
        variables.merge(environment) { _, new in new }
        let all = variables
        let wrapper = try TestTools.path("setpriv")
        let pid = try await starter.run { () throws in
            try ChildProcess.start(
                wrapper, arguments: ["setpriv", "--pdeathsig", "KILL", program] + arguments, environment: all,
                descriptors: ChildProcess.Descriptors(output: output, error: output), newSession: false,
                directory: directory)
        }
        return TestProcess(pid: pid, output: output, name: program)
    }

    /// Starts a program, waits for its end and returns its output. Throws when it fails.
    @discardableResult
    package static func run(
        _ program: String, _ arguments: [String] = [], environment: [String: String] = [:], directory: String? = nil
    ) async throws -> String {
        let process = try await start(program, arguments, environment: environment, directory: directory)
        let code = await process.wait()
        guard code == 0 else {
            throw TestSetupError("\(program) \(arguments.joined(separator: " ")) ended with \(code): \(process.output)")
        }
        return process.output
    }

    private init(pid: Int32, output: Descriptor, name: String) {
        self.pid = pid
        ExitCleanup.add(process: pid)
        outputFile = output
        self.name = name
    }

    deinit {
        guard exitCode.withLock({ $0 }) == nil else { return }
        Glibc.kill(pid, SIGKILL)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        ExitCleanup.forget(process: pid)
    }

    /// What it has written so far.
    package var output: String {
        guard let size = try? outputFile.status().size else { return "" }
        var bytes = [UInt8](repeating: 0, count: Int(size))
        let count = (try? bytes.withUnsafeMutableBytes { try outputFile.read(into: $0, at: 0) }) ?? 0
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    package var isRunning: Bool { exitCode.withLock { $0 } == nil && ChildProcess.isRunning(pid) }

    /// Sends a signal, SIGTERM unless said otherwise.
    package func kill(_ signal: Int32 = SIGTERM) {
        guard exitCode.withLock({ $0 }) == nil else { return }
        Glibc.kill(pid, signal)
    }

    /// Waits for the end: the exit code, or 128 + the signal. May be called again.
    @discardableResult
    package func wait() async -> Int32 {
        if let known = exitCode.withLock({ $0 }) { return known }
        return await Self.waiters.run { [self] in
            exitCode.withLock { code in
                if let code { return code }
                let result = ChildProcess.wait(for: pid)
                code = result
                ExitCleanup.forget(process: pid)
                return result
            }
        }
    }

    /// Kills it and waits until it is gone.
    package func stop() async {
        kill(SIGKILL)
        await wait()
    }

    private static func inheritedEnvironment() -> [String: String] {
        var variables: [String: String] = [:]
        for name in ["PATH", "HOME", "LANG", "TMPDIR", "LARDER_TOOLS", "LD_LIBRARY_PATH"] {
            if let value = getenv(name) { variables[name] = String(cString: value) }
        }
        return variables
    }
}
