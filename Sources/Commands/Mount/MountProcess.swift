import Coordination
import FileSystem
import FuseBridge
import Glibc
import Logging
import Platform
import SystemPackage

/// The process that serves one mount, from the coordinator's attachment to the unmount.
package struct MountProcess {
    private let invocation: MountInvocation
    private let report: StartReporter

    /// A coordinator that was about to leave when this mount found it is replaced by a new one.
    private static let attempts = 3

    package init(_ invocation: MountInvocation, report: StartReporter) {
        self.invocation = invocation
        self.report = report
    }

    /// Mounts, and returns when it has been unmounted, by SIGTERM, SIGINT or SIGHUP, or by anybody's umount.
    @available(*, noasync, message: "blocks its thread")
    package func run() throws(CommandFailure) {
        let signals = MountSignals()
        SignalWatch.start([SIGTERM, SIGINT, SIGHUP]) { signals.receive($0) }
        SignalWatch.ignoreBrokenPipes()
        OpenFilesLimit.raise()
        LineLogHandler.install(level: invocation.logLevel)
        var logger = Logger(label: "larder")
        logger[metadataKey: "mount"] = "\(invocation.mountPoint)"
        do throws(CommandFailure) { try serve(signals, logger) } catch {
            report.failed(error)
            throw error
        }
    }

    private func serve(_ signals: MountSignals, _ logger: Logger) throws(CommandFailure) {
        let mountPoint = try checkedMountPoint()
        let namespace = try invocation.namespace()
        try namespace.checkAgainst(mountPoint: mountPoint)
        let link = try attach(namespace, mountPoint: mountPoint, logger)
        let mount: FuseMount
        do throws(MountError) {
            let options = FuseMountOptions(
                mountPoint: mountPoint, source: invocation.sourceText, allowOther: invocation.allowOther,
                readOnly: invocation.settings[.readOnly] == "true" || namespace.isReadOnly,
                nonEmpty: invocation.nonEmpty, extra: invocation.kernelOptions)
            mount = try FuseMount.start(options: options, link: link, logger: logger)
        } catch {
            link.close()
            throw CommandFailure(code: error.exitCode, message: error.message)
        }
        signals.mounted(mount, logger)
        report.ready()
        logger.info(
            "mounted",
            metadata: [
                "source": "\(invocation.sourceText)", "coordinator": "\(link.socketPath)",
                "passthrough": "\(mount.usesPassthrough)", "pid": "\(processIdentifier())",
            ])
        mount.waitUntilUnmounted()
        logger.info("unmounted")
        link.close()
    }

    /// Before anything is started for the mount.
    private func checkedMountPoint() throws(CommandFailure) -> String {
        do throws(MountError) {
            return try FuseMount.check(mountPoint: invocation.mountPoint, nonEmpty: invocation.nonEmpty)
        } catch { throw CommandFailure(code: error.exitCode, message: error.message) }
    }

    private func attach(
        _ namespace: NamespaceSpecification, mountPoint: String, _ logger: Logger
    ) throws(CommandFailure) -> CoordinatorLink {
        let environment = ProcessEnvironment.current()
        let socket = invocation.coordinator ?? SocketLocation.preferred(environment: environment, uid: geteuid())
        var launcher: CoordinatorLauncher?
        var variables: [String: String] = [:]
        if invocation.coordinator == nil {
            var own = CoordinatorLauncher(socket: socket)
            own.cacheDirectory = invocation.cacheDirectory
            own.cacheSize = invocation.cacheSize
            own.ramSize = invocation.ramSize
            own.logLevel = invocation.logLevel
            launcher = own
            // Only to a coordinator of this user's own: a shared one has the credentials of its own configuration.
            variables = NamespaceSpecification.credentialVariables(of: environment)
        } else if invocation.cacheDirectory != nil || invocation.cacheSize != nil || invocation.ramSize != nil {
            report.note("cache options have no effect beside --coordinator: that coordinator has its own cache")
        }
        var attachment = WireAttach()
        attachment.volume = namespace.wire(environment: variables)
        attachment.mountPath = mountPoint

        let connector = Connector(socket: socket, launcher: launcher, report: report, logger: logger)
        var attempt = 1
        while true {
            do throws(CoordinationError) {
                return try CoordinatorLink(
                    socketPath: socket, attachment: attachment, logger: logger, connect: connector.connect)
            } catch {
                if let failure = connector.takeFailure() { throw failure }
                guard error == .disconnected, launcher != nil, attempt < Self.attempts else {
                    throw describe(error, socket: socket)
                }
                attempt += 1
            }
        }
    }

    private func describe(_ error: CoordinationError, socket: String) -> CommandFailure {
        switch error.errno {
        case .noSuchFileOrDirectory where !isListening(socket), .connectionRefused where !isListening(socket):
            CommandFailure(
                .unavailable,
                "no coordinator listens at \(socket): start it with larder coordinator, or leave out --coordinator")
        case .ioError:
            // What an open file calls an I/O error is a store out of reach here.
            CommandFailure(.unavailable, "cannot mount \(invocation.sourceText): \(error.message)")
        default: CommandFailure(error, while: "mount \(invocation.sourceText)")
        }
    }

    private func isListening(_ socket: String) -> Bool { (try? PacketSocket.connect(to: socket)) != nil }
}

/// Connects a mount to its coordinator, the first time and after each loss.
private final class Connector: Sendable {
    private let socket: String
    private let launcher: CoordinatorLauncher?
    private let report: StartReporter
    private let logger: Logger
    private let failure = Lock<CommandFailure?>(nil)

    init(socket: String, launcher: CoordinatorLauncher?, report: StartReporter, logger: Logger) {
        self.socket = socket
        self.launcher = launcher
        self.report = report
        self.logger = logger
    }

    /// What kept a coordinator from starting, with its exit code, which the link's errors do not carry.
    func takeFailure() -> CommandFailure? {
        failure.withLock { failure in
            defer { failure = nil }
            return failure
        }
    }

    func connect(
        _ onNotification: @escaping CoordinatorClient.NotificationHandler,
        _ onClose: @escaping @Sendable () -> Void
    ) throws(CoordinationError) -> CoordinatorClient {
        if let launcher {
            do throws(CommandFailure) {
                try launcher.ensureRunning { note in
                    report.note(note)
                    logger.notice("\(note)")
                }
            } catch {
                let reason = error
                failure.withLock { $0 = reason }
                throw CoordinationError(.connectionRefused, reason.message)
            }
        }
        return try CoordinatorClient(
            path: socket, role: .mount, software: LarderVersion.software, onNotification: onNotification,
            onClose: onClose)
    }
}

/// What a signal does, before and after there is a mount.
private final class MountSignals: Sendable {
    private let state = Lock((mount: nil as FuseMount?, logger: nil as Logger?, isEnding: false))

    func mounted(_ mount: FuseMount, _ logger: Logger) {
        let isEnding = state.withLock { state in
            state.mount = mount
            state.logger = logger
            return state.isEnding
        }
        if isEnding { end(mount, logger) }
    }

    func receive(_ signal: Int32) {
        let (mount, logger, wasEnding) = state.withLock { state in
            defer { state.isEnding = true }
            return (state.mount, state.logger, state.isEnding)
        }
        guard let mount, let logger else { return }
        // The second signal of an impatient user: open files are left behind.
        if wasEnding { exit(128 + signal) }
        logger.info("unmounting", metadata: ["signal": "\(signal)"])
        end(mount, logger)
    }

    private func end(_ mount: FuseMount, _ logger: Logger) {
        do throws(MountError) { try mount.unmount(lazily: false) } catch {
            logger.warning("\(error.message): the mount is taken out of sight and ends with the last open file")
            do throws(MountError) { try mount.unmount(lazily: true) } catch { logger.error("\(error.message)") }
        }
    }
}
