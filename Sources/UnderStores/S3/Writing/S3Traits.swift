import Platform

/// What a store does with changes, as far as it is known; found out once, by the kind of the store or by a probe.
struct S3Behaviour: Hashable, Sendable {
    var conditions = EnforcedConditions()
    /// A body that does not fit its CRC32C is refused.
    var checksCRC32C = false
    /// A body that does not fit its Content-MD5 is refused. Asked only where its CRC32C is not looked at.
    var checksMD5 = false
    /// The ETag of an object that was put as a whole is the MD5 of its bytes.
    var tagsAreMD5 = false
    /// The ETag that CompleteMultipartUpload answers is the one that the object then has.
    var completionTellsTag = false
    /// A right `If-Match` is accepted. Where it is not, none is sent.
    var acceptsVersion = true
    /// CopyObject copies.
    var copies = true
    /// UploadPartCopy copies.
    var copiesParts = true
    /// The copy of a source that has changed is refused.
    var checksCopySource = false

    /// For people.
    var requirements: [StoreRequirement] {
        let resent = tagsAreMD5 ? "Larder compares the ETag, and sends again" : "damage on the way is not noticed"
        var found = conditions.requirements
        found.append(
            StoreRequirement(
                "a body that does not fit its CRC32C is refused", checksCRC32C,
                otherwise: checksMD5 ? "Larder sends a Content-MD5" : resent))
        if !checksCRC32C {
            found.append(
                StoreRequirement("a body that does not fit its Content-MD5 is refused", checksMD5, otherwise: resent))
        }
        found.append(
            StoreRequirement("CopyObject", copies, otherwise: "names do not change, and metadata only with the bytes"))
        found.append(
            StoreRequirement(
                "UploadPartCopy with a range", copiesParts, otherwise: "what did not change is uploaded again"))
        if copies {
            found.append(
                StoreRequirement(
                    "copies if unchanged (x-amz-copy-source-if-match)", checksCopySource,
                    otherwise: "Larder looks before"))
        }
        return found
    }

    /// "Conditional writes" and "Checking object integrity" (Amazon S3 User Guide).
    static let aws: S3Behaviour = {
        var behaviour = S3Behaviour()
        behaviour.conditions = EnforcedConditions(
            putAbsent: true, putVersion: true, completeAbsent: true, completeVersion: true, isKnown: true)
        behaviour.checksCRC32C = true
        behaviour.completionTellsTag = true
        behaviour.checksCopySource = true
        return behaviour
    }()
}

/// The behaviour of one store, found out once, by the first who must know it while the others wait. Any thread.
final class S3Traits: Sendable {
    private enum State {
        case unknown
        case running(Task<Result<S3Behaviour, StoreError>, Never>)
        case known(S3Behaviour)
    }

    private struct Knowledge {
        var state: State
        /// Whether an empty object `name/` stays one; nil until the first was made.
        var keepsMarkers: Bool?
    }

    private let knowledge: Lock<Knowledge>

    init(isAWS: Bool) {
        knowledge = Lock(Knowledge(state: isAWS ? .known(.aws) : .unknown, keepsMarkers: isAWS ? true : nil))
    }

    /// nil while it is not known.
    var behaviour: S3Behaviour? {
        knowledge.withLock { knowledge in
            if case .known(let behaviour) = knowledge.state { behaviour } else { nil }
        }
    }

    var keepsMarkers: Bool? {
        get { knowledge.withLock { $0.keepsMarkers } }
        set { knowledge.withLock { $0.keepsMarkers = newValue } }
    }

    /// What `probe` finds out, or has found out before. The probe runs to its end, so that it can clean up, even when
    /// all who wait are cancelled.
    func settle(
        _ probe: @escaping @Sendable () async throws(StoreError) -> S3Behaviour
    ) async throws(StoreError) -> S3Behaviour {
        let task = knowledge.withLock { knowledge in
            switch knowledge.state {
            case .known(let behaviour): return Task { Result<S3Behaviour, StoreError>.success(behaviour) }
            case .running(let task): return task
            case .unknown:
                let task = Task { [weak self] in await Self.outcome(of: probe, for: self) }
                knowledge.state = .running(task)
                return task
            }
        }
        return try await task.value.get()
    }

    private static func outcome(
        of probe: @Sendable () async throws(StoreError) -> S3Behaviour, for traits: S3Traits?
    ) async -> Result<S3Behaviour, StoreError> {
        do throws(StoreError) {
            let behaviour = try await probe()
            traits?.knowledge.withLock { $0.state = .known(behaviour) }
            return .success(behaviour)
        } catch {
            // The next one asks again.
            traits?.knowledge.withLock { $0.state = .unknown }
            return .failure(error)
        }
    }
}
