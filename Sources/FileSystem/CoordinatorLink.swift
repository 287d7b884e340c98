import Coordination
import Logging
import Platform
import Synchronization
import SystemPackage

/// A mount's lasting session with the coordinator: what outlives any one connection.
///
/// When the connection closes, requests wait while it connects and attaches again, and are then sent again. One that
/// changes something keeps its operation number, so that the coordinator does it once. Leases and list streams belong to one
/// connection, which is known by its *generation* (1…, growing).
package final class CoordinatorLink: Sendable {
    package struct Reply: Sendable {
        package let body: WireEnvelope.OneOf_Body
        package let descriptors: [Descriptor]
        /// The connection that answered; leases in `body` belong to it.
        package let generation: UInt64
    }
    package typealias Completion = @Sendable (Result<Reply, CoordinationError>) -> Void
    /// Makes a connected client with the two handlers that it is given; may first start a coordinator. Called on a
    /// thread that may block.
    package typealias Connect =
        @Sendable (
            _ onNotification: @escaping CoordinatorClient.NotificationHandler,
            _ onClose: @escaping @Sendable () -> Void
        ) throws(CoordinationError) -> CoordinatorClient

    /// Tells the kernel what to forget, then calls the second, on any thread. It must neither block nor send itself.
    package typealias InvalidationHandler =
        @Sendable (WireInvalidate, _ forgotten: @escaping @Sendable () -> Void) -> Void

    struct Waiting {
        let body: WireEnvelope.OneOf_Body
        let operation: UInt64
        let attempts: Int
        let completion: Completion
    }
    struct State {
        /// nil while there is no attached connection.
        var client: CoordinatorClient?
        var nextGeneration: UInt64 = 1
        /// The newest connection known to have closed, maybe before it was attached.
        var lostGeneration: UInt64 = 0
        var waiting: [Waiting] = []
        var gaveUp = false
        var isClosed = false
        var attached = WireAttached()
        /// The coordinator's session, and since which connection it is that one.
        var session: (number: UInt64, since: UInt64) = (0, 0)
        var device: Device?
        var onInvalidate: InvalidationHandler?
        var onReconnected: (@Sendable () -> Void)?
    }

    /// The mount's /dev/fuse connection, and what the coordinator must know of it.
    struct Device {
        let descriptor: Descriptor
        let passthrough: Bool
        /// A successor of this process could go on with it.
        let isResumable: Bool
    }

    /// What successors of this process know.
    package let memory: SessionMemory
    /// Where the coordinator listens, for people.
    package let socketPath: String
    let attachment: WireAttach
    let connect: Connect
    let patience: Duration
    let logger: Logger
    let state = Lock(State())
    private let currentGeneration = Atomic<UInt64>(0)
    private let currentRoot = Atomic<UInt64>(0)
    private let kernelAttributes = Atomic<Bool>(false)
    /// Sends what a receive thread must not send itself; its tasks are short. Two threads, so that a full socket of one
    /// session does not stop another.
    static let sharedWorkers = WorkerPool(name: "larder-link", threads: 2)
    var workers: WorkerPool { Self.sharedWorkers }

    /// A request is sent again at most this often, so that one that kills the coordinator does not do so for ever.
    static let maximumAttempts = 5

    /// Connects and attaches; blocks its thread until the coordinator has checked the stores.
    ///
    /// - Parameters:
    ///   - attachment: sent again on every new connection.
    ///   - memory: of a session that begins; nil for one that no other process will know of.
    ///   - patience: how long requests wait for a lost coordinator before they fail with EIO.
    /// - Throws: why the first connection or attachment failed.
    @available(*, noasync, message: "blocks its thread")
    package convenience init(
        socketPath: String, attachment: WireAttach, memory: SessionMemory? = nil, patience: Duration = .seconds(30),
        logger: Logger, connect: @escaping Connect
    ) throws(CoordinationError) {
        let own: SessionMemory
        do throws(Errno) { if let memory { own = memory } else { own = try SessionMemory() } } catch {
            throw CoordinationError(error, "there is no memory for a session: \(error)")
        }
        self.init(socketPath, attachment, own, patience, logger, connect)
        try establish()
    }

    /// Takes over a session whose process has died: requests wait until `resume` has connected.
    package convenience init(
        socketPath: String, attachment: WireAttach, takingOver memory: SessionMemory, patience: Duration = .seconds(30),
        logger: Logger, connect: @escaping Connect
    ) {
        self.init(socketPath, attachment, memory, patience, logger, connect)
        currentRoot.store(memory.root, ordering: .relaxed)
        kernelAttributes.store(memory.hasKernelAttributes, ordering: .relaxed)
    }

    private init(
        _ socketPath: String, _ attachment: WireAttach, _ memory: SessionMemory, _ patience: Duration, _ logger: Logger,
        _ connect: @escaping Connect
    ) {
        self.socketPath = socketPath
        self.memory = memory
        var own = attachment
        own.client = memory.client.data
        self.attachment = own
        self.patience = patience
        self.logger = logger
        self.connect = connect
    }

    /// Connects, for a session that was taken over. Once, when all handlers are set; returns at once.
    package func resume() { startThread(named: "larder-relink") { [self] in reconnect() } }

    /// What the coordinator answered to the latest attachment.
    package var attached: WireAttached { state.withLock { $0.attached } }

    /// The inode number of the volume's root. Any thread, without a lock.
    package var root: UInt64 { currentRoot.load(ordering: .relaxed) }

    /// The newest attached connection. Any thread, without a lock.
    @inline(__always)
    package var generation: UInt64 { currentGeneration.load(ordering: .acquiring) }

    /// Calls `handler`, on a receive thread, for what the kernel must forget.
    package func onInvalidate(_ handler: @escaping InvalidationHandler) {
        state.withLock { $0.onInvalidate = handler }
    }

    /// Calls `handler`, on a thread that may send, each time a connection has replaced a lost one.
    func onReconnected(_ handler: @escaping @Sendable () -> Void) { state.withLock { $0.onReconnected = handler } }

    /// Whether some store of the volume keeps attributes of the kernel's own namespaces. Without a lock.
    var hasKernelAttributes: Bool { kernelAttributes.load(ordering: .relaxed) }

    /// The number of a new operation; 1…
    func nextOperation() -> UInt64 { memory.nextOperation() }

    /// The coordinator's session that the leases of a connection belong to; 0: of none any more.
    func session(of generation: UInt64) -> UInt64 {
        state.withLock { $0.session.since == generation ? $0.session.number : 0 }
    }

    /// The coordinator's session.
    var session: UInt64 { state.withLock { $0.session.number } }

    /// Ends the session for good; what waits fails with EIO.
    package func close() {
        notify(.detach(.init()), boundTo: generation)
        let (client, waiting) = state.withLock { state in
            state.isClosed = true
            defer {
                state.client = nil
                state.waiting = []
                state.onInvalidate = nil
                state.onReconnected = nil
                state.device = nil
            }
            return (state.client, state.waiting)
        }
        client?.close()
        for waiting in waiting { waiting.completion(.failure(Self.unavailable)) }
    }

    static let unavailable = CoordinationError(.ioError, "the coordinator cannot be reached")

    /// Connects, attaches and lends the FUSE device again; then the connection is the current one.
    func establish() throws(CoordinationError) {
        let (generation, device) = state.withLock { state in
            defer { state.nextGeneration += 1 }
            return (state.nextGeneration, state.device)
        }
        var attachment = attachment
        attachment.resuming = self.generation > 0 || memory.isTakenOver
        attachment.takesOver = self.generation == 0 && memory.isTakenOver
        attachment.acknowledges = true
        attachment.generation = memory.generation
        let client = try connect(
            { [weak self] body, acknowledge in self?.receive(body, acknowledge) },
            { [weak self] in self?.lost(generation) })
        let attached: WireAttached
        do throws(CoordinationError) {
            attached = try Self.attach(client, attachment)
            if let device { try Self.lend(device, memory.file, to: client) }
        } catch {
            client.close()
            throw error
        }
        let isAlive = state.withLock { state in
            guard state.lostGeneration < generation, !state.isClosed else { return false }
            state.client = client
            state.attached = attached
            state.session = (attached.session, generation)
            state.gaveUp = false
            memory.root = attached.root
            memory.hasKernelAttributes = attached.kernelAttributes
            currentRoot.store(attached.root, ordering: .relaxed)
            kernelAttributes.store(attached.kernelAttributes, ordering: .relaxed)
            currentGeneration.store(generation, ordering: .releasing)
            return true
        }
        guard isAlive else {
            client.close()
            throw .disconnected
        }
    }

    private static func attach(_ client: CoordinatorClient, _ request: WireAttach) throws(CoordinationError)
        -> WireAttached
    {
        guard case .attached(let attached) = try client.call(.attach(request)).body else {
            throw CoordinationError(.protocolError, "the coordinator answered Attach with something else")
        }
        return attached
    }

    private static func lend(
        _ device: Device, _ memory: Descriptor, to client: CoordinatorClient
    ) throws(CoordinationError) {
        var request = WireRegisterDevice()
        request.passthrough = device.passthrough
        request.resumable = device.isResumable
        let descriptors = [device.descriptor] + (device.isResumable ? [memory] : [])
        _ = try client.call(.registerDevice(request), descriptors: descriptors)
    }

    /// Lends the mount's /dev/fuse connection to the coordinator, now and on every new connection. Blocks its thread.
    @available(*, noasync, message: "blocks its thread")
    package func register(
        device: Descriptor, passthrough: Bool, isResumable: Bool = false
    ) throws(CoordinationError) {
        let device = Device(descriptor: device, passthrough: passthrough, isResumable: isResumable)
        let client = state.withLock { state in
            state.device = device
            return state.client
        }
        // Without a client, the next `establish` lends it.
        if let client {
            do throws(CoordinationError) { try Self.lend(device, memory.file, to: client) } catch {
                if error != .disconnected { throw error }
            }
        }
    }

    private func receive(_ body: WireEnvelope.OneOf_Body, _ acknowledge: @escaping @Sendable () -> Void) {
        guard case .invalidate(let invalidate) = body else { return }
        let acknowledgeLater: @Sendable () -> Void = { [workers] in workers.submit(acknowledge) }
        // Without a handler nothing is mounted yet, or any more: there is no kernel that could have kept anything.
        guard let handler = state.withLock({ $0.onInvalidate }) else { return acknowledgeLater() }
        handler(invalidate, acknowledgeLater)
    }
}
