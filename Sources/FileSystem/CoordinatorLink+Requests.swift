import Coordination
import Platform
import SystemPackage

extension CoordinatorLink {
    /// Sends a request that any connection can answer; it waits while there is none.
    ///
    /// `completion` runs once: on a receive thread, which must not send (use `workers`), or on another.
    package func request(_ body: WireEnvelope.OneOf_Body, completion: @escaping Completion) {
        send(Waiting(body: body, operation: 0, attempts: 0, completion: completion))
    }

    /// Sends a request that changes something, under a new operation number or the one of `nextOperation` that is given;
    /// otherwise as `request`.
    package func change(
        _ body: WireEnvelope.OneOf_Body, operation: UInt64? = nil, completion: @escaping Completion
    ) {
        send(Waiting(body: body, operation: operation ?? nextOperation(), attempts: 0, completion: completion))
    }

    /// Sends a request that only means something on connection `generation`; fails with `.disconnected` when that is
    /// gone.
    package func request(
        _ body: WireEnvelope.OneOf_Body, operation: UInt64 = 0, boundTo generation: UInt64,
        completion: @escaping Completion
    ) {
        guard let client = client(of: generation) else { return completion(.failure(.disconnected)) }
        client.request(body, operation: operation) { [self] result in
            switch result {
            case .success(let reply): completion(.success(Reply(reply, generation)))
            case .failure(let error):
                guard Self.isConnectionLoss(error) else { return completion(.failure(error)) }
                lost(generation)
                completion(.failure(.disconnected))
            }
        }
    }

    /// Sends a message without an answer on connection `generation`; nothing happens when that is gone.
    package func notify(_ body: WireEnvelope.OneOf_Body, boundTo generation: UInt64) {
        client(of: generation)?.notify(body)
    }

    private func client(of generation: UInt64) -> CoordinatorClient? {
        state.withLock { state in generation == self.generation ? state.client : nil }
    }

    private static func isConnectionLoss(_ error: CoordinationError) -> Bool {
        error == .disconnected || error.errno == .brokenPipe || error.errno == .connectionReset
    }

    private func send(_ waiting: Waiting) {
        enum Route {
            case now(CoordinatorClient, UInt64)
            case later
            case never
        }
        let route: Route = state.withLock { state in
            if let client = state.client { return .now(client, generation) }
            if state.gaveUp || state.isClosed { return .never }
            state.waiting.append(waiting)
            return .later
        }
        switch route {
        case .later: break
        case .never: waiting.completion(.failure(Self.unavailable))
        case .now(let client, let generation):
            client.request(waiting.body, operation: waiting.operation) { [self] result in
                switch result {
                case .success(let reply): waiting.completion(.success(Reply(reply, generation)))
                case .failure(let error):
                    guard Self.isConnectionLoss(error) else { return waiting.completion(.failure(error)) }
                    sendAgain(waiting, after: generation)
                }
            }
        }
    }

    private func sendAgain(_ waiting: Waiting, after generation: UInt64) {
        lost(generation)
        guard waiting.attempts + 1 < Self.maximumAttempts else {
            return waiting.completion(.failure(Self.unavailable))
        }
        let next = Waiting(
            body: waiting.body, operation: waiting.operation, attempts: waiting.attempts + 1,
            completion: waiting.completion)
        workers.submit { [self] in send(next) }
    }

    // MARK: Reconnecting

    /// Connection `generation` has closed; the first to notice starts to reconnect. Any thread.
    func lost(_ generation: UInt64) {
        let mustReconnect = state.withLock { state in
            state.lostGeneration = max(state.lostGeneration, generation)
            guard generation == self.generation, state.client != nil, !state.isClosed else { return false }
            state.client = nil
            return true
        }
        guard mustReconnect else { return }
        logger.warning("the coordinator closed the connection; reconnecting to \(socketPath)")
        startThread(named: "larder-relink") { [self] in reconnect() }
    }

    func reconnect() {
        let started = MonotonicClock.now()
        let deadline = started + UInt64(max(0, patience / .nanoseconds(1)))
        var delay = 10
        while !state.withLock({ $0.isClosed }) {
            do throws(CoordinationError) {
                try establish()
                logger.notice("connected to the coordinator again")
                state.withLock { $0.onReconnected }?()
                for waiting in takeWaiting(givingUp: false) { send(waiting) }
                return
            } catch {
                logger.debug("cannot reconnect: \(error)")
                if MonotonicClock.now() >= deadline, !state.withLock({ $0.gaveUp }) {
                    logger.error("no coordinator for \(patience): calls that need it fail until it is back (\(error))")
                    for waiting in takeWaiting(givingUp: true) { waiting.completion(.failure(Self.unavailable)) }
                }
            }
            pause(milliseconds: delay)
            delay = min(delay * 2, 500)
        }
    }

    private func takeWaiting(givingUp: Bool) -> [Waiting] {
        state.withLock { state in
            if givingUp { state.gaveUp = true }
            defer { state.waiting = [] }
            return state.waiting
        }
    }
}

extension CoordinatorLink.Reply {
    init(_ reply: CoordinatorClient.Reply, _ generation: UInt64) {
        self.init(body: reply.body, descriptors: reply.descriptors, generation: generation)
    }
}
