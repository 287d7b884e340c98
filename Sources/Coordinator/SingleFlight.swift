import Coordination
import Platform

/// Lets callers that ask for the same thing at the same time share one answer.
///
/// The work runs in a task of its own: a caller that is cancelled leaves the others theirs.
final class SingleFlight<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private typealias Flight = Task<Result<Value, CoordinationError>, Never>
    private let flights = Lock<[Key: Flight]>([:])
    private let pool: WorkerPool

    init(pool: WorkerPool) { self.pool = pool }

    func run(
        _ key: Key, _ work: @escaping @Sendable () async throws(CoordinationError) -> Value
    ) async throws(CoordinationError) -> Value {
        let flight = flights.withLock { flights -> Flight in
            if let flight = flights[key] { return flight }
            let flight = Flight(executorPreference: pool) { [self] in
                let result: Result<Value, CoordinationError>
                do throws(CoordinationError) { result = .success(try await work()) } catch { result = .failure(error) }
                landed(key)
                return result
            }
            flights[key] = flight
            return flight
        }
        return try await flight.value.get()
    }

    private func landed(_ key: Key) { flights.withLock { $0[key] = nil } }
}
