import BlockCaching
import Coordination
import Platform
import UnderStores

extension Services {
    /// Of a message of 128 KiB: bytes for files that wait.
    private static let pendingText = 32 << 10

    /// What `larder status` shows.
    func status() -> WireStatus {
        var status = WireStatus()
        status.pid = processIdentifier()
        status.software = software
        status.socket = socketPath
        status.uptimeSeconds = (MonotonicClock.now() - startedAt) / 1_000_000_000
        status.tiers = cache.statistics().tiers.map { tier in
            var wire = WireStatus.Tier()
            wire.kind = tier.kind.rawValue
            wire.path = tier.path
            wire.quotaBytes = tier.quota
            wire.usedBytes = tier.used
            wire.files = tier.files
            wire.state =
                switch tier.state {
                case .ok: "ok"
                case .full(let reason): "full: \(reason)"
                case .failed(let reason): "failed: \(reason)"
                }
            return wire
        }
        status.stores = stores().map { store in
            var wire = WireStatus.Store()
            wire.identity = store.identity.text
            let tally = namespace.tallies.tally(of: store.identity)
            wire.unnameableKeys = tally.unnameable
            wire.shadowedObjects = tally.shadowed
            wire.lastError = tally.lastError
            let counters = store.counters
            wire.requests = [
                "HEAD": counters.headRequests, "GET": counters.getRequests, "LIST": counters.listRequests,
            ]
            wire.requests["PUT"] = counters.changeRequests
            wire.bytesReceived = counters.bytesReceived
            wire.conditions = store.objectWriting.map { Self.text($0.conditions) } ?? ""
            wire.errors = counters.errors
            wire.retries = counters.retries
            return wire
        }
        status.mounts = sessions.mounts().map { $0.status() }
        let pending = changes.staging.pending
        status.pendingFiles = UInt64(pending.count)
        status.pendingBytes = pending.reduce(0) { $0 &+ $1.bytes }
        // A message has an end, and so has the patience of who reads it.
        var room = Self.pendingText
        let listed = pending.prefix { file in
            room -= file.path.count + file.store.text.utf8.count + (file.lastError?.utf8.count ?? 0) + 40
            return room >= 0
        }
        status.pending = listed.map { file in
            var wire = WireStatus.PendingFile()
            wire.path = file.path.description
            wire.store = file.store.text
            wire.state = file.state.rawValue
            wire.bytes = file.bytes
            wire.uploadedBytes = file.uploadedBytes
            wire.lastError = file.lastError ?? ""
            wire.ageSeconds = file.ageSeconds
            return wire
        }
        status.conflicts = UInt64(changes.staging.conflicts.count)
        status.notes = notes.all() + changes.journal.reports
        return status
    }

    /// What a store enforces of the conditions of a write, for people; empty while it is not known.
    private static func text(_ conditions: EnforcedConditions) -> String {
        guard conditions.isKnown else { return "" }
        let each = [
            conditions.putAbsent, conditions.putVersion, conditions.completeAbsent, conditions.completeVersion,
        ]
        if each.allSatisfy({ $0 }) { return "enforced" }
        return each.contains(true)
            ? "enforced in part, else checked before and after" : "not enforced: checked before and after"
    }

    /// Data that lost a race.
    func conflicts() -> WireConflicts {
        var wire = WireConflicts()
        wire.conflicts = changes.staging.conflicts.map { conflict in
            var entry = WireConflicts.Conflict()
            entry.number = conflict.number
            entry.url = conflict.store.text.isEmpty ? "" : "\(conflict.store)/\(conflict.path)"
            entry.bytes = conflict.bytes
            entry.seconds = conflict.time.seconds
            entry.reason = conflict.reason
            return entry
        }
        return wire
    }

    /// "ram" or "disk", by a tier's directory.
    func tierKind(path: String) -> String? { cache.statistics().tiers.first { $0.path == path }?.kind.rawValue }

    /// The attached stores, each once.
    func stores() -> [any UnderStore] {
        var seen = Set<ObjectIdentifier>()
        return volumes.all().flatMap(\.mounts).map(\.store)
            .filter { seen.insert(ObjectIdentifier($0 as AnyObject)).inserted }
            .sorted { $0.identity.text < $1.identity.text }
    }
}

extension ClientSession {
    func status() -> WireStatus.Mount {
        var mount = WireStatus.Mount()
        let passthrough = state.withLock { state in
            mount.mountPath = state.mountPath
            mount.source = state.volume?.source ?? ""
            mount.generation = state.generation
            mount.resumable = state.isResumable
            mount.supervisor = state.supervisor
            mount.waiting = state.life == .kept
            return state.hasPassthrough
        }
        mount.pid = session.peer.pid
        mount.uid = session.peer.uid
        mount.passthrough = passthrough
        var files: [UInt64: WireStatus.OpenFile] = [:]
        for lease in leases.all() {
            var file = files[lease.inode] ?? WireStatus.OpenFile()
            file.path = "/" + (lease.mount.path.isEmpty ? lease.path : lease.mount.path + "/" + lease.path).description
            file.mode = lease.mode
            file.opens += 1
            files[lease.inode] = file
        }
        mount.openFiles = files.values.sorted { $0.path < $1.path }
        return mount
    }
}
