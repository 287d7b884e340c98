import BlockCaching
import Coordination
import Platform
import SystemPackage

extension LeaseService {
    /// Lends again what a lease was granted for, to a successor of the process that had it. nil: it must be opened anew.
    func lendAgain(_ lease: Lease) async throws(CoordinationError) -> Grant? {
        var grant = Grant(opened: WireOpened())
        grant.opened.lease = lease.number
        let record = namespace.index.record(lease.inode) ?? lease.record
        grant.opened.attributes = namespace.attributes(lease.inode, lease.isWriting ? record : lease.record)
        switch lease.backing {
        case .staged(let file):
            grant.opened.staged.number = file.number
            grant.opened.staged.room = file.mayGrowUnasked ? Self.ampleRoom : Self.scarceRoom
            if let backing = lease.backingID { grant.opened.staged.backingID = backing.number }
            do throws(Errno) { grant.descriptors = [try file.descriptor()] } catch {
                throw CoordinationError(error, "cannot open the staged file of \(lease.path)")
            }
        case .source:
            if let file = lease.lentFile { grant.descriptors = [file] }
            if let backing = lease.backingID {
                grant.opened.backingID = backing.number
            } else if lease.lentFile != nil {
                grant.opened.source = .init()
            } else {
                return nil
            }
        case .inline: try await lendBytes(lease, &grant)
        case .store: grant.opened.readThrough = .init()
        case .cached:
            if let backing = lease.backingID {
                grant.opened.backingID = backing.number
            } else if let loan = lease.loan {
                grant.descriptors = [loan.data] + (loan.map.map { [$0] } ?? [])
                if loan.map == nil { grant.opened.whole = .init() } else { grant.opened.mapped = .init() }
            } else {
                grant.opened.readThrough = .init()
            }
        }
        return grant
    }

    /// The bytes of the version that was opened, whatever its name leads to by now.
    private func lendBytes(_ lease: Lease, _ grant: inout Grant) async throws(CoordinationError) {
        let size = lease.record.attributes.size
        grant.opened.inline = .init()
        guard size > 0, let object = try cachedObject(lease.inode, lease.record) else { return }
        do {
            grant.opened.inline = try await wholeBytes(of: object, count: Int(size)).data
        } catch { throw CoordinationError(reading: error) }
    }
}
