import BlockCaching
import Coordination
import Glibc
import LMDB
import Logging
import Platform
import SystemPackage
import UnderStores

/// The node daemon: owns credentials, cache, metadata and leases, and serves mounts over a Unix socket.
package final class CoordinatorDaemon: Sendable {
    private let configuration: CoordinatorConfiguration
    let services: Services
    private let server: SessionServer
    private let departure: Departure
    /// Held while the coordinator lives: two must not share a state directory.
    private let lockFile: Descriptor
    private let logger: Logger

    /// How long a coordinator of its own waits for a mount after the last one has gone.
    private static let grace: Duration = .seconds(3)
    /// How long it waits for the first.
    private static let patience: Duration = .seconds(60)
    /// Tasks of sessions: they wait for the index and for local files, hardly for the processor.
    private static let workers = 8

    /// Opens the cache and the index and listens. Blocks; not on Swift's cooperative pool.
    package init(_ configuration: CoordinatorConfiguration, logger: Logger) throws(CoordinatorError) {
        self.configuration = configuration
        self.logger = logger
        lockFile = try Self.lock(configuration.stateDirectory)
        let cache: BlockCache
        do { cache = try BlockCache(configuration: configuration.cache, logger: logger) } catch {
            throw CoordinatorError("\(error)", exitCode: ExitCode.cannotCreate)
        }
        let index: MetadataIndex
        do {
            index = try MetadataIndex(
                directory: configuration.stateDirectory,
                bootIdentifier: configuration.bootIdentifier ?? Machine.bootIdentifier(), logger: logger)
        } catch {
            throw CoordinatorError(
                "the metadata index in \(configuration.stateDirectory) cannot be opened: \(error)",
                exitCode: ExitCode.cannotCreate)
        }
        let departure = Departure()
        self.departure = departure
        let pool = WorkerPool(name: "coordinator", threads: Self.workers)
        let sessions = SessionTable(grace: configuration.sessionGrace) { departure.mountCount($0) }
        let table = MountTable(syntheticDefaults: AttributeDefaults(uid: getuid(), gid: getgid()))
        let namespace = Namespace(index: index, table: table, pool: pool, logger: logger) {
            sessions.broadcast($0, except: $1)
        }
        let notes = StatusNotes(logger: logger)
        let locks = ChangeLocks()
        let written = WrittenFiles(namespace: namespace, locks: locks, logger: logger)
        let journal: Journal
        let staging: StagingService
        do {
            journal = try Journal(
                directory: configuration.stateDirectory,
                bootIdentifier: configuration.bootIdentifier ?? Machine.bootIdentifier(), logger: logger)
            var configuration = StagingConfiguration()
            configuration.linger = .seconds(1)
            configuration.longestLinger = .seconds(5)
            staging = try StagingService(
                journal: journal, cache: cache, configuration: configuration, events: written, logger: logger)
        } catch {
            throw CoordinatorError(
                "the journal in \(configuration.stateDirectory) cannot be opened: \(error)",
                exitCode: ExitCode.cannotCreate)
        }
        let changes = ChangeService(
            namespace: namespace, written: written, staging: staging, journal: journal, locks: locks, logger: logger)
        let leases = LeaseService(namespace: namespace, changes: changes, cache: cache, notes: notes, logger: logger)
        written.attach(
            staging,
            cachedObject: { (inode, record) throws(CoordinationError) in try leases.cachedObject(inode, record) },
            leases: { sessions.mounts().flatMap { $0.leases.all() } })
        services = Services(
            namespace: namespace,
            volumes: VolumeTable(
                namespace: namespace, makeStore: configuration.makeStore ?? StoreRegistry(logger: logger).factory,
                pool: pool, logger: logger, prepare: { await changes.recover($0) }),
            leases: leases, changes: changes,
            operations: OperationLog(journal: journal, pool: pool, logger: logger), locks: LockTable(), cache: cache,
            pool: pool, sessions: sessions, notes: notes, logger: logger, socketPath: configuration.socketPath,
            software: configuration.software, startedAt: MonotonicClock.now(),
            patience: configuration.mountPatience, stop: { departure.leave() })
        Self.removeStaleSocket(configuration.socketPath)
        do {
            server = try SessionServer(
                path: configuration.socketPath, software: configuration.software, logger: logger,
                admit: { peer, _ in Self.refusal(of: peer) },
                makeHandler: { [services] in ClientSession($0, services: services) })
        } catch {
            throw CoordinatorError(
                "cannot listen at \(configuration.socketPath): \(error); is its directory there and writable?",
                exitCode: ExitCode.unavailable)
        }
        // Whoever may connect is decided by SO_PEERCRED; the mode keeps others from trying.
        chmod(configuration.socketPath, 0o600)
    }

    /// Serves until `stop`, a client's Shutdown, or (where configured) the last mount's departure; then ends every session
    /// and writes the cache's clean marker. Throws when the HTTP address cannot be used.
    package func run() async throws(CoordinatorError) {
        logger.info(
            "coordinator serves",
            metadata: ["socket": "\(configuration.socketPath)", "pid": "\(processIdentifier())"])
        if configuration.leavesWithLastMount { departure.watch(patience: Self.patience, grace: Self.grace) }
        let http = configuration.http.map { MonitoringServer($0, services: services, logger: logger) }
        let failure: CoordinatorError?
        if let http {
            failure = await withTaskGroup(of: CoordinatorError?.self) { group in
                group.addTask { await http.run() }
                group.addTask { [departure] in
                    await departure.wait()
                    return nil
                }
                let first = await group.next() ?? nil
                group.cancelAll()
                return first
            }
        } else {
            await departure.wait()
            failure = nil
        }
        server.close()
        await services.changes.staging.shutdown()
        await services.cache.shutdown()
        logger.info("coordinator ends")
        if let failure { throw failure }
    }

    /// Ends `run`. Any thread, also before `run`.
    package func stop() { departure.leave() }

    /// Only the coordinator's own user and root: it reads with that user's credentials.
    private static func refusal(of peer: PeerCredentials) -> String? {
        if peer.uid == geteuid() || peer.uid == 0 { return nil }
        return "this coordinator belongs to uid \(geteuid()) and does not serve uid \(peer.uid);"
            + " run one of your own or ask for a mount with --allow-other"
    }

    private static func lock(_ directory: String) throws(CoordinatorError) -> Descriptor {
        do {
            if mkdir(directory, 0o700) != 0, errno != EEXIST { throw Errno(rawValue: errno) }
            let file = try Descriptor.open(directory + "/coordinator.lock", O_RDWR | O_CREAT)
            try file.lockExclusively()
            return file
        } catch {
            let errno = error as? Errno ?? .ioError
            let reason = errno == .wouldBlock ? "another coordinator uses it" : "\(errno)"
            throw CoordinatorError(
                "the state directory \(directory) cannot be used: \(reason)", exitCode: ExitCode.cannotCreate)
        }
    }

    /// A socket file that a killed coordinator left behind; the lock proves that none listens on it.
    private static func removeStaleSocket(_ path: String) {
        guard let status = try? FileStatus(of: path), status.mode & S_IFMT == S_IFSOCK else { return }
        if (try? PacketSocket.connect(to: path)) == nil { unlink(path) }
    }
}

/// Of sysexits.h, whose macros Swift does not see.
private enum ExitCode {
    static let unavailable: Int32 = 69
    static let cannotCreate: Int32 = 73
}
