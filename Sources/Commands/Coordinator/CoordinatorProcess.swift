import BlockCaching
import Coordinator
import Glibc
import Logging
import Platform
import SystemPackage

/// The process of `larder coordinator`.
package struct CoordinatorProcess {
    private let settings: CoordinatorSettings
    private let leavesWithLastMount: Bool

    /// How long a coordinator waits for the one before it to write its index and leave.
    private static let lockAttempts = 750
    private static let lockPause = 40

    package init(_ settings: CoordinatorSettings, leavesWithLastMount: Bool) {
        self.settings = settings
        self.leavesWithLastMount = leavesWithLastMount
    }

    /// Serves until SIGTERM or SIGINT, a client's request, or the departure of the last mount.
    @available(*, noasync, message: "blocks its thread")
    package func run(_ report: StartReporter) throws(CommandFailure) {
        let daemon = DaemonBox()
        SignalWatch.start([SIGTERM, SIGINT]) { _ in daemon.stop() }
        SignalWatch.ignoreBrokenPipes()
        OpenFilesLimit.raise()
        LineLogHandler.install(level: settings.logLevel)
        let logger = Logger(label: "larder")
        do throws(CommandFailure) {
            let lock = try runLock()
            let made: CoordinatorDaemon
            do throws(CoordinatorError) { made = try CoordinatorDaemon(try configuration(), logger: logger) } catch {
                throw CommandFailure(code: error.exitCode, message: error.message)
            }
            daemon.set(made)
            report.ready()
            let outcome = OneShot<CoordinatorError?>()
            Task {
                do throws(CoordinatorError) {
                    try await made.run()
                    outcome.set(nil)
                } catch { outcome.set(error) }
            }
            if let error = outcome.wait() ?? nil { throw CommandFailure(code: error.exitCode, message: error.message) }
            withExtendedLifetime(lock) {}
        } catch {
            logger.error("\(error.message)")
            report.failed(error)
            throw error
        }
    }

    /// The coordinator before this one stops listening first, and then still writes for a while.
    private func runLock() throws(CommandFailure) -> Descriptor {
        let directory = FilePaths.parent(of: settings.socket)
        if leavesWithLastMount {
            try SocketLocation.prepareDirectory(of: settings.socket)
        } else {
            try SocketLocation.makeDirectory(directory, mode: 0o755)
        }
        let path = settings.socket + ".lock"
        do throws(Errno) {
            let file = try Descriptor.open(path, O_RDWR | O_CREAT)
            for _ in 0..<Self.lockAttempts {
                do throws(Errno) {
                    try file.lockExclusively()
                    return file
                } catch { if error != .wouldBlock { throw error } }
                // One that still listens will not leave for us.
                if (try? PacketSocket.connect(to: settings.socket)) != nil { break }
                pause(milliseconds: Self.lockPause)
            }
        } catch { throw CommandFailure(.cannotCreate, "cannot lock \(path): \(error)") }
        throw CommandFailure(
            .unavailable, "another coordinator serves \(settings.socket): stop it, or give this one another socket")
    }

    private func configuration() throws(CoordinatorError) -> CoordinatorConfiguration {
        do throws(CommandFailure) {
            try SocketLocation.makeDirectory(FilePaths.parent(of: settings.stateDirectory), mode: 0o755)
        } catch { throw CoordinatorError(error.message, exitCode: error.code) }
        var cache = CacheConfiguration(
            tiers: settings.tiers.map { tier in
                TierConfiguration(
                    path: tier.path, kind: tier.kind == .ram ? .ram : .disk, quota: tier.size,
                    floorFreeBytes: tier.reserve ?? Self.defaultReserve(tier))
            })
        cache.blockSize = settings.blockSize
        // LMDB maps its file: were it on the cache's disk, an I/O error of that would end the process (SIGBUS).
        cache.indexDirectory = settings.stateDirectory + "/cache-index"
        var configuration = CoordinatorConfiguration(
            socketPath: settings.socket, stateDirectory: settings.stateDirectory, cache: cache,
            software: LarderVersion.software)
        configuration.http = settings.http.map { .init(host: $0.host, port: $0.port) }
        configuration.leavesWithLastMount = leavesWithLastMount
        return configuration
    }

    /// Other programs on the file system must not meet a full disk because of the cache.
    private static func defaultReserve(_ tier: CoordinatorSettings.Tier) -> UInt64 {
        guard tier.kind == .disk, let space = DiskSpace(of: tier.path) ?? DiskSpace(of: FilePaths.parent(of: tier.path))
        else { return 0 }
        return min(1 << 30, space.totalBytes / 20)
    }
}

/// The daemon, once it is there, for a signal that may come before.
private final class DaemonBox: Sendable {
    private let state = Lock((daemon: nil as CoordinatorDaemon?, isStopped: false))

    func set(_ daemon: CoordinatorDaemon) {
        let isStopped = state.withLock { state in
            state.daemon = daemon
            return state.isStopped
        }
        if isStopped { daemon.stop() }
    }

    func stop() {
        let daemon = state.withLock { state in
            state.isStopped = true
            return state.daemon
        }
        daemon?.stop()
    }
}
