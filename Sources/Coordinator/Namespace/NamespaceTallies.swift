import Platform
import UnderStores

/// What listings found and could not show, by store.
final class NamespaceTallies: Sendable {
    struct Tally: Sendable {
        var unnameable: UInt64 = 0
        var shadowed: UInt64 = 0
    }
    private let tallies = Lock<[StoreIdentity: Tally]>([:])

    func add(unnameable: Int, shadowed: Int, store: StoreIdentity) {
        guard unnameable > 0 || shadowed > 0 else { return }
        tallies.withLock {
            $0[store, default: Tally()].unnameable += UInt64(unnameable)
            $0[store, default: Tally()].shadowed += UInt64(shadowed)
        }
    }

    func tally(of store: StoreIdentity) -> Tally { tallies.withLock { $0[store] ?? Tally() } }
}
