import Platform
import UnderStores

/// Looks at what a store has whose conditions are not enforced, beside what somebody waits for: before a commit while the
/// file is written, and after it while its caller goes on.
extension StagingService {
    /// Begins to look whether the name of a new file is free in the store, so that its close need not wait for that.
    func lookAhead(_ file: StagedFile) {
        let target = file.target
        let conditions = target.store.conditions
        // What is uploaded later is looked at later.
        guard !target.writeType.acknowledgesOnNode, target.base == .absent, conditions.isKnown,
            !conditions.enforce(.absent)
        else { return }
        let look = Task(executorPreference: pool) { try? await target.store.look(target.path, for: .absent) }
        file.state.withLock { $0.look = look }
    }

    /// What is known for the next commit; it is used once. nil: the commit looks itself.
    func takeLook(of file: StagedFile) async -> ConditionLook? {
        let look = file.state.withLock { state in
            defer { state.look = nil }
            return state.look
        }
        return await look?.value
    }

    /// Begins to look whether a commit was the last to change its object. Two writers that had both seen the same before
    /// overwrite each other: the bytes of the first are kept as a conflict then, though its close has returned.
    func lookAfter(_ file: StagedFile, _ made: ObjectAttributes, _ target: StagedTarget) {
        guard let version = made.version, !target.store.conditions.enforce(target.base) else { return }
        let look = Task(executorPreference: pool) { [self] in
            do throws(StoreError) {
                let look = try await target.store.look(target.path, for: .version(version))
                // It tells what the next commit wants to know.
                file.state.withLock { state in
                    if state.target.base == .version(version) { state.look = Task { look } }
                }
            } catch {
                // What was removed since was removed knowingly, and what does not answer tells nothing.
                guard error.kind == .versionChanged, !isClosed else { return }
                let isOurs = file.state.withLock { $0.phase == .current && $0.target.base == .version(version) }
                if isOurs { conflict(file, "somebody else replaced the object in the moment of its commit") }
            }
        }
        file.state.withLock { $0.lookAfter = look }
    }

    /// The same for who waits. Throws when somebody else's object is there, or when it cannot be seen.
    func makeSure(of made: ObjectAttributes, _ target: StagedTarget) async throws(StagingFailure) {
        guard let version = made.version, !target.store.conditions.enforce(target.base) else { return }
        do throws(StoreError) { _ = try await target.store.look(target.path, for: .version(version)) } catch {
            throw .store(error)
        }
    }

    /// Waits until it is known whether the last commit has lost a race.
    func waitForLook(at file: StagedFile) async {
        let look = file.state.withLock { state in
            defer { state.lookAfter = nil }
            return state.lookAfter
        }
        await look?.value
    }
}
