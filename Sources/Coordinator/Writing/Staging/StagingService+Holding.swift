import Coordination
import LMDB
import Platform
import UnderStores

/// What keeps commits away while names change.
extension StagingService {
    /// Runs `body` while nothing of these files is committed: who asks waits. Commits that are under way are waited for
    /// first, and what the store has of each file (`base`) is certain then. Writers go on meanwhile.
    ///
    /// - Throws: what the store says when it is asked for what it has; the error of `body`.
    package func holding<Value: Sendable>(
        _ files: [StagedFile], _ body: () async throws(CoordinationError) -> Value
    ) async throws(CoordinationError) -> Value {
        for file in files { file.state.withLock { $0.holds += 1 } }
        defer { for file in files { letGo(file) } }
        for file in files {
            await waitForFlight(file)
            do throws(StagingFailure) { try await settleAttempts(of: file) } catch {
                throw CoordinationError(error, file.path)
            }
        }
        return try await body()
    }

    private func letGo(_ file: StagedFile) {
        let waiting = file.state.withLock { state in
            state.holds -= 1
            guard state.holds == 0 else { return [CheckedContinuation<Void, Never>]() }
            defer { state.held = [] }
            return state.held
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Waits until nobody changes the file's name.
    func waitForName(of file: StagedFile) async {
        await withCheckedContinuation { continuation in
            let isFree = file.state.withLock { state in
                if state.holds > 0 { state.held.append(continuation) }
                return state.holds == 0
            }
            if isFree { continuation.resume() }
        }
    }

    /// Journals whether the object of a file is being removed. Throws EIO when the journal cannot be written.
    package func note(isLeaving: Bool, _ file: StagedFile) async throws(CoordinationError) {
        file.state.withLock { $0.isLeaving = isLeaving }
        do throws(StagingFailure) {
            try await blockingBriefly { [self] () throws(StagingFailure) in try save(file) }
        } catch {
            throw CoordinationError(error, file.path)
        }
    }
}
