import Coordination
import LMDB
import Logging
import Platform
import SwiftProtobuf
import SystemPackage

/// Lets a change that a client sends again, after it lost its connection or the coordinator its life, be done once.
///
/// An answer is in the journal before it is sent. Between the change and the journal lies a moment in which a kill loses
/// the answer: then the change is tried again, and what cannot be done twice (a name that exists now) fails.
final class OperationLog: Sendable {
    struct Key: Hashable, Sendable {
        let client: ByteString
        let operation: UInt64
    }

    private let journal: Journal
    private let flights: SingleFlight<Key, ClientSession.Answer>
    private let logger: Logger

    init(journal: Journal, pool: WorkerPool, logger: Logger) {
        self.journal = journal
        self.logger = logger
        flights = SingleFlight(pool: pool)
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
