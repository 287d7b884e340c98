import Logging
import Platform
import Synchronization
import SystemPackage

/// What serves a session's requests, on the coordinator's side.
package protocol SessionHandler: AnyObject, Sendable {
    /// Called on the session's receive thread, in the order of arrival; must not wait for anything that another message of
    /// the client would bring. It may send, because a client's receive thread never does.
    /// - Parameters:
    ///   - id: 0 for a message that wants no answer.
    ///   - operation: of a request that changes something: its number among those of the client; else 0.
    func receive(_ body: WireEnvelope.OneOf_Body, id: UInt64, operation: UInt64, descriptors: [Descriptor])
    /// The connection ended; called once, after the last `receive`.
    func close()
}

/// The coordinator's end of one client's connection.
package final class Session: Sendable {
    package let number: UInt64
    package let peer: PeerCredentials
    package let role: WireHello.Role
    package let software: String
    private let channel: MessageChannel

    init(number: UInt64, peer: PeerCredentials, hello: WireHello, channel: MessageChannel) {
        self.number = number
        self.peer = peer
        role = hello.role
        software = hello.software
        self.channel = channel
    }

    /// Answers request `id`. False when the client has gone. Blocks while the client's buffer is full.
    @discardableResult
    package func reply(to id: UInt64, _ body: WireEnvelope.OneOf_Body, descriptors: [Descriptor] = []) -> Bool {
        var envelope = WireEnvelope()
        envelope.id = id
        envelope.body = body
        do {
            try channel.send(envelope, descriptors: descriptors)
            return true
        } catch {
            guard error == .messageTooLong else { return false }
            return fail(id, .messageTooLong, "the answer does not fit into one message")
        }
    }

    /// Answers request `id` with an error for the application and a line for a person.
    @discardableResult
    package func fail(_ id: UInt64, _ errno: Errno, _ message: String) -> Bool {
        var failure = WireFailure()
        failure.errorNumber = errno.rawValue
        failure.message = message
        return reply(to: id, .failure(failure))
    }

    /// Sends a request of the coordinator's own, which the client answers with the same id: see `Invalidate` in the protocol.
    /// False when the client has gone. Blocks while the client's buffer is full.
    package func request(_ body: WireEnvelope.OneOf_Body, id: UInt64) -> Bool { reply(to: id, body) }

    /// Sends a message that answers nothing.
    package func notify(_ body: WireEnvelope.OneOf_Body) { reply(to: 0, body) }

    /// Ends the session from this side.
    package func disconnect() { channel.shutdown() }
}

/// Accepts clients on a Unix socket, shakes hands, and runs each session on a thread of its own.
package final class SessionServer: Sendable {
    private let listener: PacketListener
    private let software: String
    private let logger: Logger
    private let admit: @Sendable (PeerCredentials, WireHello) -> String?
    private let makeHandler: @Sendable (Session) -> any SessionHandler
    private let numbers = Atomic<UInt64>(1)
    private let sessions = Lock<(open: [UInt64: Session], isClosed: Bool)>(([:], false))

    /// Binds `path`, which must not exist, and starts to accept.
    /// - Parameters:
    ///   - admit: returns why a client is refused, or nil. On the session's thread.
    ///   - makeHandler: makes the handler of an admitted session. On the session's thread.
    package init(
        path: String, software: String, logger: Logger,
        admit: @escaping @Sendable (PeerCredentials, WireHello) -> String?,
        makeHandler: @escaping @Sendable (Session) -> any SessionHandler
    ) throws(Errno) {
        listener = try PacketListener(path: path)
        self.software = software
        self.logger = logger
        self.admit = admit
        self.makeHandler = makeHandler
        startThread(named: "larder-accept") { [self] in accept() }
    }

    /// Stops accepting, removes the socket file and ends every session.
    package func close() {
        listener.close()
        let open = sessions.withLock { sessions in
            sessions.isClosed = true
            return Array(sessions.open.values)
        }
        for session in open { session.disconnect() }
    }

    private func accept() {
        while true {
            do {
                let socket = try listener.accept()
                startThread(named: "larder-session") { [self] in serve(MessageChannel(socket)) }
            } catch {
                switch error {
                case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory, .noBufferSpace:
                    // The pending client stays in the backlog; without a pause this loop would spin until one leaves.
                    logger.warning("cannot accept a client: \(error)")
                    pause(milliseconds: 100)
                default: return
                }
            }
        }
    }

    private func serve(_ channel: MessageChannel) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: PacketSocket.maximumMessage, alignment: 64)
        defer { buffer.deallocate() }
        guard let session = shakeHands(channel, buffer) else { return channel.shutdown() }
        // A session that shook hands while the server closed must not outlive it.
        let isAdmitted = sessions.withLock { sessions in
            if !sessions.isClosed { sessions.open[session.number] = session }
            return !sessions.isClosed
        }
        guard isAdmitted else { return channel.shutdown() }
        let handler = makeHandler(session)
        do {
            while let message = try channel.receive(using: buffer) {
                guard let body = message.envelope.body else {
                    // A message of a newer client: it is told, and the session goes on.
                    if message.envelope.id != 0 {
                        session.fail(message.envelope.id, .notSupported, "this coordinator does not know the request")
                    }
                    continue
                }
                handler.receive(
                    body, id: message.envelope.id, operation: message.envelope.operation,
                    descriptors: message.descriptors)
            }
        } catch {
            logger.warning("session \(session.number) of pid \(session.peer.pid) ended: \(error)")
        }
        channel.shutdown()
        sessions.withLock { $0.open[session.number] = nil }
        handler.close()
    }

    private func shakeHands(_ channel: MessageChannel, _ buffer: UnsafeMutableRawBufferPointer) -> Session? {
        guard let peer = try? channel.peer(), let first = try? channel.receive(using: buffer),
            case .hello(let hello) = first.envelope.body
        else {
            logger.warning("a client did not start with Hello and was closed")
            return nil
        }
        let number = numbers.wrappingAdd(1, ordering: .relaxed).oldValue
        let session = Session(number: number, peer: peer, hello: hello, channel: channel)
        guard hello.protocol == ProtocolVersion.current else {
            session.fail(
                first.envelope.id, .protocolNotSupported,
                "this coordinator (\(software)) speaks protocol \(ProtocolVersion.current), the client "
                    + "(\(hello.software)) speaks \(hello.protocol): upgrade the older one")
            return nil
        }
        if let reason = admit(peer, hello) {
            session.fail(first.envelope.id, .permissionDenied, reason)
            return nil
        }
        var welcome = WireWelcome()
        welcome.protocol = ProtocolVersion.current
        welcome.software = software
        welcome.pid = processIdentifier()
        return session.reply(to: first.envelope.id, .welcome(welcome)) ? session : nil
    }
}
