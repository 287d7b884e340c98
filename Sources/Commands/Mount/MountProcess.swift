import Coordination
import FileSystem
import FuseBridge
import Glibc
import Logging
import Platform
import SystemPackage

/// The process that serves one mount, from the coordinator's attachment or the death of the process before it to the unmount.
struct MountProcess {
    private let invocation: MountInvocation
    private let supervisor: SupervisorChannel
    private var report: StartReporter { supervisor.report }

    /// A coordinator that was about to leave when this mount found it is replaced by a new one.
    private static let attempts = 3

    init(_ invocation: MountInvocation, _ supervisor: SupervisorChannel) {
        self.invocation = invocation
        self.supervisor = supervisor
    }

    /// Mounts, or goes on with a mount, and returns when it has been unmounted, by SIGTERM, SIGINT or SIGHUP, or by anybody's
    /// umount. SIGUSR1 ends the process at once, for a successor.
    @available(*, noasync, message: "blocks its thread")
    func run() throws(CommandFailure) {
        let signals = MountSignals()
        SignalWatch.start([SIGTERM, SIGINT, SIGHUP, SIGUSR1]) { signals.receive($0) }
        supervisor.send("watching")
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
        guard let begin = supervisor.receive(), let file = begin.descriptors.first else {
            throw CommandFailure(.software, "the mount's supervisor is gone")
        }
        let (link, mount) =
            begin.descriptors.count > 1
            ? try resume(file, begin.descriptors[1], logger) : try mount(file, logger)
        signals.mounted(mount, logger)
        report.ready()
        logger.info(
            link.memory.isTakenOver ? "goes on" : "mounted",
            metadata: [
                "source": "\(invocation.sourceText)", "coordinator": "\(link.socketPath)",
                "passthrough": "\(mount.usesPassthrough)", "pid": "\(processIdentifier())",
                "generation": "\(link.memory.generation)",
            ])
        mount.waitUntilUnmounted()
        logger.info("unmounted")
        link.close()
        supervisor.send("unmounted")
    }

    private func mount(
        _ file: Descriptor, _ logger: Logger
    ) throws(CommandFailure) -> (CoordinatorLink, FuseMount) {
        let memory: SessionMemory
        do throws(Errno) { memory = try SessionMemory(takingOver: file) } catch {
            throw CommandFailure(.osError, "the session's memory cannot be used: \(error)")
        }
        let mountPoint = try checkedMountPoint()
        let namespace = try invocation.namespace()
        try namespace.checkAgainst(mountPoint: mountPoint)
        let link = try attach(namespace, memory, mountPoint: mountPoint, logger)
        do throws(MountError) {
            let options = FuseMountOptions(
                mountPoint: mountPoint, source: invocation.sourceText, allowOther: invocation.allowOther,
                readOnly: isReadOnly(namespace), nonEmpty: invocation.nonEmpty, extra: invocation.kernelOptions)
            let mount = try FuseMount.start(options: options, link: link, logger: logger) { [supervisor] in
                supervisor.send("mounted", [$0])
            }
            return (link, mount)
        } catch {
            link.close()
            throw CommandFailure(code: error.exitCode, message: error.message)
        }
    }

    /// Goes on with a mount whose process has died. Nothing here may touch the mount point, which nobody serves.
    private func resume(
        _ file: Descriptor, _ device: Descriptor, _ logger: Logger
    ) throws(CommandFailure) -> (CoordinatorLink, FuseMount) {
        let memory: SessionMemory
        do throws(Errno) { memory = try SessionMemory(takingOver: file) } catch {
            throw CommandFailure(.software, "this release cannot go on with the session of another: \(error)")
        }
        let namespace = try invocation.namespace()
        let setting = connection(namespace, mountPoint: invocation.mountPoint, logger)
        let link = CoordinatorLink(
            socketPath: setting.socket, attachment: setting.attachment, takingOver: memory, logger: logger,
            connect: setting.connector.connect)
        do throws(MountError) {
            let mount = try FuseMount.resume(
                device, mountPoint: invocation.mountPoint, isReadOnly: isReadOnly(namespace), link: link,
                logger: logger)
            return (link, mount)
        } catch {
            throw CommandFailure(code: error.exitCode, message: error.message)
        }
    }

    private func isReadOnly(_ namespace: NamespaceSpecification) -> Bool {
        invocation.settings[.readOnly] == "true" || namespace.isReadOnly || invocation.kernelOptions.contains("ro")
    }

    /// Before anything is started for the mount.
    private func checkedMountPoint() throws(CommandFailure) -> String {
        do throws(MountError) {
            return try FuseMount.check(mountPoint: invocation.mountPoint, nonEmpty: invocation.nonEmpty)
        } catch { throw CommandFailure(code: error.exitCode, message: error.message) }
    }

    private struct Connection {
        let socket: String
        let attachment: WireAttach
        let connector: Connector
        let canStart: Bool
    }

    private func connection(
        _ namespace: NamespaceSpecification, mountPoint: String, _ logger: Logger
    ) -> Connection {
        let environment = ProcessEnvironment.current()
        let socket = invocation.coordinatorSocket(environment)
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
        attachment.supervisor = getppid()
        let connector = Connector(socket: socket, launcher: launcher, report: report, logger: logger)
        return Connection(socket: socket, attachment: attachment, connector: connector, canStart: launcher != nil)
    }

    private func attach(
        _ namespace: NamespaceSpecification, _ memory: SessionMemory, mountPoint: String, _ logger: Logger
    ) throws(CommandFailure) -> CoordinatorLink {
        let setting = connection(namespace, mountPoint: mountPoint, logger)
        var attempt = 1
        while true {
            do throws(CoordinationError) {
                return try CoordinatorLink(
                    socketPath: setting.socket, attachment: setting.attachment, memory: memory, logger: logger,
                    connect: setting.connector.connect)
            } catch {
                if let failure = setting.connector.takeFailure() { throw failure }
                guard error == .disconnected, setting.canStart, attempt < Self.attempts else {
                    throw describe(error, socket: setting.socket)
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
        // As a kill would end it, which a successor is made for: the kernel sends it what is not answered here.
        if signal == SIGUSR1 { _exit(0) }
        let (mount, logger, wasEnding) = state.withLock { state in
            defer { state.isEnding = true }
            return (state.mount, state.logger, state.isEnding)
        }
        // The supervisor's signal and one of somebody who sends it to each process: once is enough.
        guard let mount, let logger, !wasEnding else { return }
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
