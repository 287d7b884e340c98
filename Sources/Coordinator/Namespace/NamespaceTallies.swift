import Platform
import UnderStores

/// What listings found and could not show, and what went wrong last, by store.
final class NamespaceTallies: Sendable {
    struct Tally: Sendable {
        var unnameable: UInt64 = 0
        var shadowed: UInt64 = 0
        /// One line of the last failure that a reader was told of; without secrets, as every `StoreError`.
        var lastError = ""
    }
    private let tallies = Lock<[StoreIdentity: Tally]>([:])

    func add(unnameable: Int, shadowed: Int, store: StoreIdentity) {
        guard unnameable > 0 || shadowed > 0 else { return }
        tallies.withLock {
            $0[store, default: Tally()].unnameable += UInt64(unnameable)
            $0[store, default: Tally()].shadowed += UInt64(shadowed)
        }
    }

    func note(_ error: any Error, of store: StoreIdentity) {
        guard let error = error as? StoreError, error.kind != .cancelled else { return }
        tallies.withLock { $0[store, default: Tally()].lastError = error.message }
    }

    func tally(of store: StoreIdentity) -> Tally { tallies.withLock { $0[store] ?? Tally() } }
}
