import Coordination
import LMDB
import Logging
import Platform
import SwiftProtobuf
import SystemPackage

/// Lets a change that a client sends again, after it lost its connection or the coordinator its life, be done once.
///
/// An answer is in the journal before it is sent. A kill between the change and its answer leaves the intent of the change
/// there (`ChangeIntent`), by which the successor judges what has been done already.
final class OperationLog: Sendable {
    struct Key: Hashable, Sendable {
        let client: ByteString
        let operation: UInt64
    }

    private let journal: Journal
    private let flights: SingleFlight<Key, ClientSession.Answer>
    private let logger: Logger
    private let pool: WorkerPool
    /// Clients without a session, since when (CLOCK_MONOTONIC nanoseconds). A mount that lost its coordinator comes back
    /// within seconds; one that ended never does.
    private let away: Lock<[ByteString: UInt64]>
    private let patience: UInt64

    /// How long the answers of a client without a session are kept, in nanoseconds.
    static let patience: UInt64 = 3600 * 1_000_000_000

    /// Blocks.
    init(journal: Journal, pool: WorkerPool, logger: Logger, patience: UInt64 = OperationLog.patience) {
        self.journal = journal
        self.logger = logger
        self.pool = pool
        self.patience = patience
        flights = SingleFlight(pool: pool)
        let now = MonotonicClock.now()
        // Those of a coordinator before this one, who may come back.
        away = Lock(Dictionary(((try? journal.operationClients()) ?? []).map { ($0, now) }, uniquingKeysWith: { $1 }))
    }

    /// A client has a session (again).
    func begin(_ client: ByteString) {
        _ = away.withLock { $0.removeValue(forKey: client) }
        forgetTheGone()
    }

    /// A client's session has ended.
    func end(_ client: ByteString) {
        guard client.count == 16 else { return }
        away.withLock { $0[client] = MonotonicClock.now() }
        forgetTheGone()
    }

    private func forgetTheGone() {
        let now = MonotonicClock.now()
        let gone = away.withLock { away -> [ByteString] in
            let gone = away.filter { now - min($0.value, now) >= patience }.map(\.key)
            for client in gone { away[client] = nil }
            return gone
        }
        guard !gone.isEmpty else { return }
        pool.submit { [journal, logger] in
            for client in gone {
                do { try journal.forgetOperations(of: client) } catch {
                    logger.warning("the journal cannot forget a client", metadata: ["reason": "\(error)"])
                }
            }
        }
    }

    /// The answer of an operation: noted before, of one under way, or of `work`.
    func once(
        _ key: Key, _ work: @escaping @Sendable () async throws(CoordinationError) -> ClientSession.Answer
    ) async throws(CoordinationError) -> ClientSession.Answer {
        try await flights.run(key) { [self] () async throws(CoordinationError) in
            if let known = try recall(key) { return known }
            do throws(CoordinationError) {
                let answer = try await work()
                note(answer.body, key)
                return answer
            } catch {
                var failure = WireFailure()
                failure.errorNumber = error.errno.rawValue
                failure.message = error.message
                note(.failure(failure), key)
                throw error
            }
        }
    }

    /// What was noted; nil when nothing was. Throws the failure that was.
    func recall(_ key: Key) throws(CoordinationError) -> ClientSession.Answer? {
        guard let bytes = try? journal.result(of: key.operation, by: key.client),
            let body = (try? WireEnvelope(serializedBytes: bytes))?.body
        else { return nil }
        if case .failure(let failure) = body {
            throw CoordinationError(Errno(rawValue: failure.errorNumber), failure.message)
        }
        return ClientSession.Answer(body: body)
    }

    /// The answer to a change that tells nothing but that it is done, as the journal keeps it.
    static let done: [UInt8]? = {
        var envelope = WireEnvelope()
        envelope.body = .done(.init())
        return try? envelope.serializedBytes()
    }()

    /// What is noted of a file that was created: it is found by its inode when it is asked for again.
    static func answer(ofCreating inode: UInt64) -> [UInt8]? {
        var envelope = WireEnvelope()
        envelope.entry.attributes.inode = inode
        return try? envelope.serializedBytes()
    }

    /// A change whose failure is not kept was refused: when it is sent again, it is a new one.
    func noteRefusal(of key: Key) { try? journal.removeIntent(of: key) }

    /// Keeps an answer for the case that the operation is sent again.
    func note(_ body: WireEnvelope.OneOf_Body, _ key: Key) {
        var envelope = WireEnvelope()
        envelope.body = body
        do {
            let bytes: [UInt8] = try envelope.serializedBytes()
            try journal.note(bytes, of: key.operation, by: key.client)
        } catch {
            logger.warning("the journal cannot note an answer", metadata: ["reason": "\(error)"])
        }
    }
}
