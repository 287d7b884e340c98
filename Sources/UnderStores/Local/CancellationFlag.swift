import Synchronization

/// Carries the cancellation of a task to blocking work that runs on another thread.
final class CancellationFlag: Sendable {
    private let cancelled = Atomic(false)

    // Relaxed: the flag orders nothing but itself.
    var isSet: Bool { cancelled.load(ordering: .relaxed) }

    /// Runs `body`, meanwhile setting the flag when the calling task is cancelled.
    func watchingTask<Result: Sendable>(
        _ body: () async throws(StoreError) -> Result
    ) async throws(StoreError) -> Result {
        let outcome: Swift.Result<Result, StoreError> = await withTaskCancellationHandler {
            do throws(StoreError) { return .success(try await body()) } catch { return .failure(error) }
        } onCancel: {
            cancelled.store(true, ordering: .relaxed)
        }
        return try outcome.get()
    }
}
