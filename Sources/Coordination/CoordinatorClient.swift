import Logging
import Platform
import SystemPackage

/// A client's session with the coordinator: requests in flight by id, answers given to completions on one receive thread.
package final class CoordinatorClient: Sendable {
    package struct Reply: Sendable {
        package let body: WireEnvelope.OneOf_Body
        package let descriptors: [Descriptor]
    }
    package typealias Completion = @Sendable (Result<Reply, CoordinationError>) -> Void
    /// Takes what the coordinator sends of itself. `acknowledge` answers it, if it wants an answer, and may be called once
    /// on any thread that may send.
    package typealias NotificationHandler =
        @Sendable (_ body: WireEnvelope.OneOf_Body, _ acknowledge: @escaping @Sendable () -> Void) -> Void

    private struct Pending {
        let completion: Completion
        /// A request answered by several messages stays until the one for which this returns true.
        let isLast: @Sendable (WireEnvelope.OneOf_Body) -> Bool
    }
    private struct State {
        var nextID: UInt64 = 1
        var pending: [UInt64: Pending] = [:]
        var isClosed = false
    }

    private let channel: MessageChannel
    private let state = Lock(State())
    private let onNotification: NotificationHandler
    private let onClose: @Sendable () -> Void
    /// What the coordinator said of itself.
    package let welcome: WireWelcome

    /// Connects, shakes hands and starts the receive thread.
    ///
    /// - Parameters:
    ///   - onNotification: called on the receive thread for messages that answer nothing; must not send there.
    ///   - onClose: called once, on the receive thread, after every pending request was failed.
    /// - Throws: `CoordinationError` with ENOENT or ECONNREFUSED when nobody listens at `path`, EPROTONOSUPPORT when the
    ///   coordinator speaks another version, EACCES when it refuses this user.
    package init(
        path: String, role: WireHello.Role, software: String,
        onNotification: @escaping NotificationHandler = { _, _ in },
        onClose: @escaping @Sendable () -> Void = {}
    ) throws(CoordinationError) {
        do { channel = MessageChannel(try PacketSocket.connect(to: path)) } catch {
            throw CoordinationError(error, "cannot connect to the coordinator at \(path): \(error)")
        }
        self.onNotification = onNotification
        self.onClose = onClose
        welcome = try Self.shakeHands(channel, role: role, software: software, path: path)
        startThread(named: "larder-client") { [self] in receive() }
    }

    deinit { channel.shutdown() }

    /// Sends a request; `completion` runs once, on the receive thread (or on this one when the connection is gone).
    /// It must not send on this client.
    ///
    /// - Parameter operation: of a request that changes something: its number; else 0.
    package func request(
        _ body: WireEnvelope.OneOf_Body, operation: UInt64 = 0, descriptors: [Descriptor] = [],
        completion: @escaping Completion
    ) {
        request(body, operation: operation, descriptors: descriptors, until: { _ in true }, onReply: completion)
    }

    /// Sends a request that is answered by several messages, up to the one for which `isLast` returns true.
    package func request(
        _ body: WireEnvelope.OneOf_Body, operation: UInt64 = 0, descriptors: [Descriptor] = [],
        until isLast: @escaping @Sendable (WireEnvelope.OneOf_Body) -> Bool, onReply: @escaping Completion
    ) {
        let id: UInt64? = state.withLock { state in
            guard !state.isClosed else { return nil }
            defer { state.nextID += 1 }
            state.pending[state.nextID] = Pending(completion: onReply, isLast: isLast)
            return state.nextID
        }
        guard let id else { return onReply(.failure(.disconnected)) }
        var envelope = WireEnvelope()
        envelope.id = id
        envelope.operation = operation
        envelope.body = body
        do { try channel.send(envelope, descriptors: descriptors) } catch {
            guard let pending = state.withLock({ $0.pending.removeValue(forKey: id) }) else { return }
            pending.completion(.failure(CoordinationError(error, "cannot reach the coordinator: \(error)")))
        }
    }

    /// Sends a message that has no answer; lost when the connection is gone.
    package func notify(_ body: WireEnvelope.OneOf_Body) {
        var envelope = WireEnvelope()
        envelope.body = body
        try? channel.send(envelope)
    }

    /// Sends a request and waits for its answer. Not on the receive thread, not on Swift's cooperative pool.
    @available(*, noasync, message: "blocks its thread")
    package func call(
        _ body: WireEnvelope.OneOf_Body, descriptors: [Descriptor] = [], timeout: Duration? = nil
    ) throws(CoordinationError) -> Reply {
        let answer = OneShot<Result<Reply, CoordinationError>>()
        request(body, descriptors: descriptors) { answer.set($0) }
        guard let result = answer.wait(timeout: timeout) else {
            throw CoordinationError(.timedOut, "the coordinator did not answer in time")
        }
        return try result.get()
    }

    /// Ends the session; its leases are freed by the coordinator.
    package func close() { channel.shutdown() }

    private func receive() {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: PacketSocket.maximumMessage, alignment: 64)
        defer { buffer.deallocate() }
        while let message = try? channel.receive(using: buffer) {
            guard let body = message.envelope.body else { continue }
            let id = message.envelope.id
            if case .invalidate = body {
                onNotification(body) { [channel] in
                    guard id != 0 else { return }
                    var answer = WireEnvelope()
                    answer.id = id
                    answer.done = .init()
                    try? channel.send(answer)
                }
                continue
            }
            let completion = state.withLock { state -> Completion? in
                guard let pending = state.pending[id] else { return nil }
                if case .failure = body {
                    state.pending[id] = nil
                } else if pending.isLast(body) {
                    state.pending[id] = nil
                }
                return pending.completion
            }
            if case .failure(let failure) = body {
                completion?(.failure(CoordinationError(Errno(rawValue: failure.errorNumber), failure.message)))
            } else {
                completion?(.success(Reply(body: body, descriptors: message.descriptors)))
            }
        }
        let orphans = state.withLock { state in
            state.isClosed = true
            defer { state.pending = [:] }
            return state.pending.values.map(\.completion)
        }
        for completion in orphans { completion(.failure(.disconnected)) }
        onClose()
    }

    private static func shakeHands(
        _ channel: MessageChannel, role: WireHello.Role, software: String, path: String
    ) throws(CoordinationError) -> WireWelcome {
        var hello = WireHello()
        hello.protocol = ProtocolVersion.current
        hello.software = software
        hello.role = role
        var envelope = WireEnvelope()
        envelope.id = 1
        envelope.body = .hello(hello)
        let answer: WireEnvelope.OneOf_Body?
        do {
            try channel.send(envelope)
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: PacketSocket.maximumMessage, alignment: 64)
            defer { buffer.deallocate() }
            answer = try channel.receive(using: buffer)?.envelope.body
        } catch {
            throw CoordinationError(.protocolError, "handshake with the coordinator at \(path) failed: \(error)")
        }
        switch answer {
        case .welcome(let welcome): return welcome
        case .failure(let failure): throw CoordinationError(Errno(rawValue: failure.errorNumber), failure.message)
        case nil: throw .disconnected
        default: throw CoordinationError(.protocolError, "what listens at \(path) is not a larder coordinator")
        }
    }
}
