import Coordination
import Platform
import SystemPackage
import UnderStores

extension ClientSession {
    /// How many inodes a session's open times are kept for; beyond, the kernel rereads a few pages.
    private static let maximumOpenTimes = 100_000

    func open(_ request: WireOpen, _ id: UInt64) async throws(CoordinationError) {
        if request.lease != 0, request.session == state.withLock({ $0.key }), let lease = leases[request.lease],
            lease.inode == request.inode,
            let grant = try await services.leases.lendAgain(lease)
        {
            session.reply(to: id, .opened(grant.opened), descriptors: grant.descriptors)
            return
        }
        if await visibleNameless(request.inode) == nil { _ = try visible(request.inode) }
        let now = MonotonicClock.now()
        let caller = Caller(uid: request.caller.uid, gid: request.caller.gid, isChecked: true)
        let grant = try await services.leases.open(
            LeaseService.Open(
                inode: request.inode, flags: CInt(truncatingIfNeeded: request.flags),
                origin: ChangeService.Origin(session: number, caller: caller), device: device(request.passthrough),
                seen: state.withLock { $0.opened[request.inode] }, staged: request.staged), into: leases)
        let isRewritten = services.namespace.index.record(request.inode)?.isRewritten ?? false
        if isRewritten || grant.opened.grant == .source(.init()) {
            state.withLock { state in
                if state.opened.count >= Self.maximumOpenTimes { state.opened.removeAll() }
                state.opened[request.inode] = now
            }
        }
        let lease = grant.opened.lease
        if !session.reply(to: id, .opened(grant.opened), descriptors: grant.descriptors) { leases.release(lease) }
    }

    func fetch(_ request: WireFetch, _ id: UInt64) async throws(CoordinationError) {
        let (lease, range) = try leased(request)
        let (fetched, descriptor) = try await services.leases.fetch(lease, range, bypassing: request.bypass)
        session.reply(to: id, .fetched(fetched), descriptors: descriptor.map { [$0] } ?? [])
    }

    /// On the receive thread.
    func prefetch(_ request: WireFetch) {
        guard let (lease, range) = try? leased(request), case .cached(let object) = lease.backing else { return }
        let end = min(range.upperBound, lease.record.attributes.size)
        guard range.lowerBound < end else { return }
        object.prefetch(range.lowerBound..<end)
    }

    /// On the receive thread.
    func recordAccess(_ report: WireAccessReport) {
        for range in report.ranges {
            guard let lease = leases[range.lease], case .cached(let object) = lease.backing else { continue }
            let size = lease.record.attributes.size
            let end = range.length > size ? size : min(size, range.offset &+ range.length)
            guard range.offset < end else { continue }
            object.recordAccess(range.offset..<end)
        }
    }

    private func leased(_ request: WireFetch) throws(CoordinationError) -> (Lease, Range<UInt64>) {
        guard let lease = leases[request.lease] else {
            throw CoordinationError(.badFileDescriptor, "the lease has ended")
        }
        let (end, overflows) = request.offset.addingReportingOverflow(request.length)
        guard !overflows else { throw CoordinationError(.invalidArgument, "the range lies beyond any file") }
        return (lease, request.offset..<end)
    }
}
