import Platform

/// Names that kernels were told to be absent because their directory is listed: until the index has them, only this tells
/// that a kernel may hold such an answer, which must be taken back when the name appears.
///
/// Most such names are created a moment later, so it spares the index a write. Any thread.
final class NegativeAnswers: Sendable {
    /// Beyond so many, all go to the index.
    private static let maximum = 4096

    private let names = Lock<[Namespace.NameKey: UInt64]>([:])

    /// Notes an answer.
    /// - Parameter until: CLOCK_MONOTONIC nanoseconds.
    /// - Returns: whether the caller should have all written to the index.
    func note(_ key: Namespace.NameKey, until: UInt64) -> Bool {
        names.withLock { names in
            names[key] = until
            return names.count > Self.maximum
        }
    }

    /// The name is there now. Returns until when it was said to be absent; nil when it was not.
    @discardableResult
    func remove(_ key: Namespace.NameKey) -> UInt64? { names.withLock { $0.removeValue(forKey: key) } }

    /// All, which the caller writes to the index.
    func takeAll() -> [Namespace.NameKey: UInt64] {
        names.withLock { names in
            defer { names = [:] }
            return names
        }
    }
}

extension Namespace {
    /// Brings what was answered from listings alone to the index, before something looks through a directory there.
    func saveNegativeAnswers() {
        let names = negatives.takeAll()
        guard !names.isEmpty else { return }
        index.update { transaction in
            for (key, until) in names where transaction.child(of: key.parent, named: key.name) == nil {
                transaction.setAbsent(key.parent, key.name, until: until)
            }
        }
    }
}
