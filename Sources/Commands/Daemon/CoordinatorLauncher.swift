import Coordination
import Glibc
import Logging
import Platform
import SystemPackage

/// Finds the user's own coordinator, or starts it.
package struct CoordinatorLauncher: Sendable {
    package let socket: String
    package var cacheDirectory: String?
    package var cacheSize: UInt64?
    package var ramSize: UInt64?
    package var logLevel = LogLevel.info

    /// How long it waits for another starter, in steps of `lockPause` milliseconds.
    private static let lockAttempts = 1500
    private static let lockPause = 40

    package init(socket: String) { self.socket = socket }

    /// Returns when a coordinator listens. One of two that run this at once starts it, and the other waits.
    /// - Parameter onNote: told what the user should know, for instance that settings have no effect.
    /// - Throws: `CommandFailure`: what the new coordinator says, or why it cannot be started.
    @available(*, noasync, message: "blocks its thread")
    package func ensureRunning(onNote: (String) -> Void) throws(CommandFailure) {
        if isListening() { return noteDifferences(onNote) }
        try SocketLocation.prepareDirectory(of: socket)
        let lock = try startLock()
        if isListening() { return noteDifferences(onNote) }
        try start(onNote)
        withExtendedLifetime(lock) {}
    }

    private func isListening() -> Bool { (try? PacketSocket.connect(to: socket)) != nil }

    private func startLock() throws(CommandFailure) -> Descriptor {
        let path = FilePaths.parent(of: socket) + "/start.lock"
        do throws(Errno) {
            let file = try Descriptor.open(path, O_RDWR | O_CREAT)
            for _ in 0..<Self.lockAttempts {
                do throws(Errno) {
                    try file.lockExclusively()
                    return file
                } catch { if error != .wouldBlock { throw error } }
                pause(milliseconds: Self.lockPause)
            }
        } catch { throw CommandFailure(.cannotCreate, "cannot lock \(path): \(error)") }
        throw CommandFailure(
            .temporaryFailure, "another process has been starting a coordinator for a minute: \(path) is locked")
    }

    private func start(_ onNote: (String) -> Void) throws(CommandFailure) {
        var arguments = ["larder", "coordinator", "--auto", "--socket", socket, "--log-level", logLevel.description]
        if let cacheDirectory { arguments += ["--cache-dir", cacheDirectory] }
        if let cacheSize { arguments += ["--cache-size", ByteSize.formatExactly(cacheSize)] }
        if let ramSize { arguments += ["--ram-size", ByteSize.formatExactly(ramSize)] }
        arguments += ["--status-fd", "3"]
        // Each mount sends the variables of its own user's credentials; the first mount's must not serve the others.
        let environment = ProcessEnvironment.current().filter { !$0.key.hasPrefix("AWS_") }
        let log = DaemonLog.open("coordinator.log")
        let child = try DaemonProcess.start(
            "coordinator", arguments: arguments, environment: environment, log: log)
        // The coordinator may end before this process: without a wait it would stay a zombie.
        startThread(named: "larder-reaper") { _ = ChildProcess.wait(for: child.pid) }
        try StartReport.wait(child.reports, name: "coordinator", log: log.path, onNote: onNote)
    }

    /// Says in one line when the cache is not as this mount asked for.
    private func noteDifferences(_ onNote: (String) -> Void) {
        guard cacheDirectory != nil || cacheSize != nil || ramSize != nil,
            let session = try? ControlSession(socket: socket), let status = try? StatusQuery.ask(session)
        else { return }
        session.client.close()
        let disk = status.cache.tiers.first { $0.kind == "disk" }
        let ram = status.cache.tiers.first { $0.kind == "ram" }
        var different: [String] = []
        if let cacheDirectory, disk?.path != AutomaticCoordinator.blocksDirectory(cacheDirectory) {
            different.append("--cache-dir")
        }
        if let cacheSize, disk?.quotaBytes != cacheSize { different.append("--cache-size") }
        if let ramSize, ram?.quotaBytes ?? 0 != ramSize { different.append("--ram-size") }
        guard !different.isEmpty else { return }
        onNote(
            "\(different.joined(separator: ", ")) has no effect: the coordinator (pid \(status.coordinator.pid)) already "
                + "runs with a cache in \(disk?.path ?? "memory")")
    }
}

/// Starting this program again, as a daemon.
package enum DaemonProcess {
    /// - Returns: its process id, and the reading end of its reports (its descriptor 3).
    static func start(
        _ name: String, arguments: [String], environment: [String: String], log: (file: Descriptor?, path: String)
    ) throws(CommandFailure) -> (pid: Int32, reports: Descriptor) {
        do throws(Errno) {
            let (reading, writing) = try Descriptor.pipe()
            let pid = try ChildProcess.start(
                ChildProcess.currentProgram(), arguments: arguments, environment: environment,
                descriptors: .init(output: log.file, error: log.file, status: writing), newSession: true,
                directory: "/")
            return (pid, reading)
        } catch { throw CommandFailure(.osError, "cannot start the \(name): \(error)") }
    }
}
