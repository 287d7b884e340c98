import Platform

/// Keeps changes of the same names apart, and changes below a directory away from its rename.
///
/// A change claims its names exclusively, and every directory above them shared; the rename or removal of a directory
/// claims that directory exclusively as well. All claims are granted at once or waited for, in the order of asking, so
/// that nothing waits in a circle.
final class ChangeLocks: Sendable {
    enum Key: Hashable, Sendable {
        /// A directory and all below it.
        case tree(UInt64)
        case name(parent: UInt64, ByteString)
        /// The content and attributes of one inode.
        case inode(UInt64)
    }

    struct Claims: Sendable {
        var exclusive: Set<Key> = []
        var shared: Set<Key> = []
    }

    private struct Waiting {
        let claims: Claims
        let continuation: CheckedContinuation<Void, Never>
    }

    private struct State {
        var exclusive: Set<Key> = []
        var shared: [Key: Int] = [:]
        var waiting: [Waiting] = []
    }

    private let state = Lock(State())

    /// Runs `body` while it holds `claims`. Waiting does not end with the task's cancellation: who holds a lock works for
    /// a bounded time.
    /// - Parameter isNested: the caller holds names already and now claims inodes. It goes before those who wait for its
    ///   names; nobody claims names while holding inodes.
    func withClaims<Result: Sendable, Failure: Error>(
        _ claims: Claims, isNested: Bool = false, _ body: () async throws(Failure) -> Result
    ) async throws(Failure) -> Result {
        await acquire(claims, isNested)
        defer { release(claims) }
        return try await body()
    }

    private func acquire(_ claims: Claims, _ isNested: Bool) async {
        await withCheckedContinuation { continuation in
            let isGranted = state.withLock { state in
                let isNext = isNested || state.waiting.allSatisfy { !Self.conflict($0.claims, claims) }
                if isNext, Self.grant(claims, &state) { return true }
                let waiting = Waiting(claims: claims, continuation: continuation)
                if isNested { state.waiting.insert(waiting, at: 0) } else { state.waiting.append(waiting) }
                return false
            }
            if isGranted { continuation.resume() }
        }
    }

    private func release(_ claims: Claims) {
        let granted = state.withLock { state -> [Waiting] in
            state.exclusive.subtract(claims.exclusive)
            for key in claims.shared {
                let count = state.shared[key, default: 1] - 1
                state.shared[key] = count == 0 ? nil : count
            }
            var granted: [Waiting] = []
            var left: [Waiting] = []
            for waiting in state.waiting {
                // Nobody overtakes who asked before for the same.
                if left.allSatisfy({ !Self.conflict($0.claims, waiting.claims) }), Self.grant(waiting.claims, &state) {
                    granted.append(waiting)
                } else {
                    left.append(waiting)
                }
            }
            state.waiting = left
            return granted
        }
        for waiting in granted { waiting.continuation.resume() }
    }

    private static func grant(_ claims: Claims, _ state: inout State) -> Bool {
        for key in claims.exclusive where state.exclusive.contains(key) || state.shared[key] != nil { return false }
        for key in claims.shared where state.exclusive.contains(key) { return false }
        state.exclusive.formUnion(claims.exclusive)
        for key in claims.shared { state.shared[key, default: 0] += 1 }
        return true
    }

    private static func conflict(_ left: Claims, _ right: Claims) -> Bool {
        !left.exclusive.isDisjoint(with: right.exclusive) || !left.exclusive.isDisjoint(with: right.shared)
            || !left.shared.isDisjoint(with: right.exclusive)
    }
}

extension ChangeLocks.Claims {
    /// - Parameters:
    ///   - names: to change, each with the directories above it, nearest first.
    ///   - trees: directories that are renamed or removed.
    init(names: [(parent: UInt64, name: ByteString, ancestors: [UInt64])], trees: [UInt64] = [], inodes: [UInt64] = [])
    {
        for (parent, name, ancestors) in names {
            exclusive.insert(.name(parent: parent, name))
            shared.formUnion(([parent] + ancestors).map { .tree($0) })
        }
        exclusive.formUnion(trees.map { .tree($0) })
        exclusive.formUnion(inodes.map { .inode($0) })
        shared.subtract(exclusive)
    }
}
