import Platform
import SystemPackage

/// One session's leases. Any thread.
final class LeaseTable: Sendable {
    private struct State {
        var next: UInt64 = 1
        var leases: [UInt64: Lease] = [:]
        var isClosed = false
    }
    private let state = Lock(State())

    /// More open files than a process may have (20 000 descriptors is a usual ceiling) are an error of the client.
    private static let maximum = 1 << 17

    /// Adds the lease that `make` builds for a number. nil, with the lease closed, when the session is over or at its limit.
    func add(_ make: (UInt64) -> Lease) -> Lease? {
        let number = state.withLock { state -> UInt64? in
            guard !state.isClosed, state.leases.count < Self.maximum else { return nil }
            defer { state.next += 1 }
            return state.next
        }
        let lease = make(number ?? 0)
        let isAdded =
            number != nil
            && state.withLock { state in
                guard !state.isClosed else { return false }
                state.leases[lease.number] = lease
                return true
            }
        if isAdded { return lease }
        lease.close()
        return nil
    }

    subscript(number: UInt64) -> Lease? { state.withLock { $0.leases[number] } }

    func release(_ number: UInt64) { state.withLock { $0.leases.removeValue(forKey: number) }?.close() }

    func all() -> [Lease] { state.withLock { Array($0.leases.values) } }

    /// Goes on with the leases of a session that has ended, under their numbers. Returns these.
    func adopt(_ other: LeaseTable) -> [UInt64] {
        let (leases, next) = other.state.withLock { state in
            state.isClosed = true
            defer { state.leases = [:] }
            return (state.leases, state.next)
        }
        let isAdopted = state.withLock { state in
            guard !state.isClosed else { return false }
            state.leases.merge(leases) { $1 }
            state.next = max(state.next, next)
            return true
        }
        if !isAdopted { for lease in leases.values { lease.close() } }
        return isAdopted ? Array(leases.keys) : []
    }

    /// Ends every lease; later ones are refused.
    func close() {
        let leases = state.withLock { state in
            state.isClosed = true
            defer { state.leases = [:] }
            return Array(state.leases.values)
        }
        for lease in leases { lease.close() }
    }
}
