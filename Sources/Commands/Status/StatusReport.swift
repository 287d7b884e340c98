import Coordination

/// `larder status --json`. Fields are only ever added.
package struct StatusReport: Encodable, Hashable, Sendable {
    package struct Coordinator: Encodable, Hashable, Sendable {
        package var pid: Int32
        package var version: String
        package var socket: String
        package var uptimeSeconds: UInt64
    }
    package struct Cache: Encodable, Hashable, Sendable {
        package var tiers: [Tier]
    }
    package struct Tier: Encodable, Hashable, Sendable {
        /// ram, disk.
        package var kind: String
        package var path: String
        package var quotaBytes, usedBytes, files: UInt64
        /// What the coordinator says of it: in use, or why not.
        package var state: String
    }
    package struct Store: Encodable, Hashable, Sendable {
        package var identity: String
        /// By kind; GET, HEAD and LIST are always there.
        package var requests: [String: UInt64]
        package var bytesReceived, errors, retries, unnameableKeys, shadowedObjects: UInt64
        /// Absent when there was none.
        package var lastError: String?
        /// Which conditional writes the store enforces; absent while it was not asked.
        package var conditions: String?
    }
    /// A file with changes that its store does not have yet.
    package struct PendingFile: Encodable, Hashable, Sendable {
        package var store, path: String
        /// writing, waiting, uploading, failed.
        package var state: String
        package var bytes, uploadedBytes, ageSeconds: UInt64
        package var lastError: String?
    }
    package struct Mount: Encodable, Hashable, Sendable {
        package var mountpoint: String
        package var source: String
        package var pid: Int32
        package var uid: UInt32
        package var passthrough: Bool
        package var openFiles: [OpenFile]
        /// How many processes have served the mount, one after the other.
        package var generation: UInt64
        /// Another goes on when its process dies.
        package var resumable: Bool
        /// Its process has ended, and no other is here yet.
        package var waiting: Bool
        /// The process that starts it; absent when there is none.
        package var supervisor: Int32?
    }
    package struct OpenFile: Encodable, Hashable, Sendable {
        package var path: String
        /// passthrough, whole, mapped, inline, source, read-through.
        package var mode: String
        package var opens: UInt32
    }

    package var coordinator: Coordinator
    package var cache: Cache
    package var stores: [Store]
    package var mounts: [Mount]
    /// The oldest; how many there are is in `pendingFiles`.
    package var pending: [PendingFile]
    package var pendingFiles: UInt64
    package var pendingBytes: UInt64
    /// How many are listed by `larder conflicts`.
    package var conflicts: UInt64
    /// What works less well than it could, and why.
    package var notes: [String]

    package init(_ wire: WireStatus) {
        coordinator = Coordinator(
            pid: wire.pid, version: wire.software, socket: wire.socket, uptimeSeconds: wire.uptimeSeconds)
        cache = Cache(
            tiers: wire.tiers.map {
                Tier(
                    kind: $0.kind, path: $0.path, quotaBytes: $0.quotaBytes, usedBytes: $0.usedBytes, files: $0.files,
                    state: $0.state)
            })
        stores = wire.stores.map {
            Store(
                identity: $0.identity, requests: ["GET": 0, "HEAD": 0, "LIST": 0].merging($0.requests) { $1 },
                bytesReceived: $0.bytesReceived, errors: $0.errors, retries: $0.retries,
                unnameableKeys: $0.unnameableKeys, shadowedObjects: $0.shadowedObjects,
                lastError: $0.lastError.isEmpty ? nil : $0.lastError,
                conditions: $0.conditions.isEmpty ? nil : $0.conditions)
        }.sorted { $0.identity < $1.identity }
        mounts = wire.mounts.map { mount in
            Mount(
                mountpoint: mount.mountPath, source: mount.source, pid: mount.pid, uid: mount.uid,
                passthrough: mount.passthrough,
                openFiles: mount.openFiles.map { OpenFile(path: $0.path, mode: $0.mode, opens: $0.opens) },
                generation: max(1, mount.generation), resumable: mount.resumable, waiting: mount.waiting,
                supervisor: mount.supervisor == 0 ? nil : mount.supervisor)
        }.sorted { ($0.mountpoint, $0.pid) < ($1.mountpoint, $1.pid) }
        pending = wire.pending.map {
            PendingFile(
                store: $0.store, path: $0.path, state: $0.state, bytes: $0.bytes, uploadedBytes: $0.uploadedBytes,
                ageSeconds: $0.ageSeconds, lastError: $0.lastError.isEmpty ? nil : $0.lastError)
        }
        // A coordinator of an older release lists them all.
        pendingFiles = max(wire.pendingFiles, UInt64(wire.pending.count))
        pendingBytes = max(wire.pendingBytes, wire.pending.reduce(0) { $0 &+ $1.bytes })
        conflicts = wire.conflicts
        notes = wire.notes
    }

    /// For a terminal.
    package func text() -> String {
        var result =
            "\(coordinator.version), pid \(coordinator.pid), at \(coordinator.socket), up "
            + TimeSpan.format(seconds: Double(coordinator.uptimeSeconds)) + "\n"

        var tiers = TextTable(
            [.left, .left, .right, .right, .right, .left], header: ["CACHE", "PATH", "USED", "OF", "FILES", "STATE"])
        for tier in cache.tiers {
            tiers.add([
                tier.kind, tier.path, ByteSize.format(tier.usedBytes), ByteSize.format(tier.quotaBytes),
                "\(tier.files)",
                tier.state,
            ])
        }
        if !cache.tiers.isEmpty { result += "\n" + tiers.text() }

        var table = TextTable(
            [.left, .right, .right, .right, .right, .right, .right, .right],
            header: ["STORE", "GET", "HEAD", "LIST", "PUT", "RECEIVED", "RETRIES", "ERRORS"])
        for store in stores {
            table.add([
                PrintableName.of(store.identity), "\(store.requests["GET"] ?? 0)", "\(store.requests["HEAD"] ?? 0)",
                "\(store.requests["LIST"] ?? 0)", "\(store.requests["PUT"] ?? 0)", ByteSize.format(store.bytesReceived),
                "\(store.retries)",
                "\(store.errors)",
            ])
        }
        if !stores.isEmpty { result += "\n" + table.text() }
        for store in stores {
            if let error = store.lastError {
                result += "  last error of \(PrintableName.of(store.identity)): \(PrintableName.of(error))\n"
            }
            if let conditions = store.conditions, conditions != "enforced" {
                result += "  conditional writes to \(PrintableName.of(store.identity)) are \(conditions)\n"
            }
            if store.unnameableKeys > 0 {
                result += "  \(store.unnameableKeys) keys that POSIX cannot name are not shown\n"
            }
            if store.shadowedObjects > 0 {
                result += "  \(store.shadowedObjects) objects are hidden by a directory of the same name\n"
            }
        }
        result += mountsText()
        result += pendingText()
        for note in notes { result += (note == notes.first ? "\n" : "") + "note: \(PrintableName.of(note))\n" }
        return result
    }

    private func pendingText() -> String {
        var result = ""
        if !pending.isEmpty {
            var table = TextTable(
                [.left, .left, .right, .right, .right],
                header: ["NOT IN THE STORE YET", "STATE", "SIZE", "UPLOADED", "SINCE"])
            for file in pending {
                table.add([
                    PrintableName.of(file.store + "/" + file.path), file.state, ByteSize.format(file.bytes),
                    ByteSize.format(file.uploadedBytes), TimeSpan.format(seconds: Double(file.ageSeconds)),
                ])
            }
            result += "\n" + table.text()
            if pendingFiles > pending.count {
                result +=
                    "  and \(pendingFiles - UInt64(pending.count)) more; \(ByteSize.format(pendingBytes)) in all\n"
            }
            for file in pending {
                guard let error = file.lastError else { continue }
                result += "  \(PrintableName.of(file.path)): \(PrintableName.of(error))\n"
            }
        }
        if conflicts > 0 {
            let count = conflicts == 1 ? "1 conflict" : "\(conflicts) conflicts"
            result += "\n\(count): larder conflicts lists what lost a race\n"
        }
        return result
    }

    private func mountsText() -> String {
        guard !mounts.isEmpty else { return "\nno mounts\n" }
        var table = TextTable(
            [.left, .left, .right, .right, .left, .right, .left],
            header: ["MOUNT", "SOURCE", "PID", "UID", "PASSTHROUGH", "OPEN", "RESUMED"])
        for mount in mounts {
            table.add([
                PrintableName.of(mount.mountpoint), PrintableName.of(mount.source), "\(mount.pid)", "\(mount.uid)",
                mount.passthrough ? "yes" : "no", "\(mount.openFiles.count)", mount.resumes,
            ])
        }
        var files = TextTable([.left, .right, .left], header: ["OPEN FILE", "OPENS", "READ BY"])
        for mount in mounts {
            for file in mount.openFiles {
                files.add([PrintableName.of(mount.mountpoint + file.path), "\(file.opens)", file.mode])
            }
        }
        let hasFiles = mounts.contains { !$0.openFiles.isEmpty }
        return "\n" + table.text() + (hasFiles ? "\n" + files.text() : "")
    }
}

extension StatusReport.Mount {
    /// How often its process was replaced, for people.
    fileprivate var resumes: String {
        if waiting { return "waits for a process" }
        guard resumable else { return "cannot (kernel before 6.9)" }
        return generation == 2 ? "once" : generation > 1 ? "\(generation - 1) times" : "never"
    }
}
