import BlockCaching
import Coordination
import Platform
import SystemPackage
import UnderStores

/// Requests of the command line.
extension ClientSession {
    func control(_ body: WireEnvelope.OneOf_Body, _ id: UInt64) async throws(CoordinationError) {
        switch body {
        case .getStatus: session.reply(to: id, .status(services.status()))
        case .describe(let request):
            _ = try await services.namespace.current(request.inode)
            session.reply(to: id, .description_p(try describe(request.inode)))
        case .measure(let request): session.reply(to: id, .usage(try await measure(request.inode)))
        case .load(let request): try await load(request, id)
        case .free(let request): session.reply(to: id, .usage(try await free(request.inode)))
        case .synchronize(let request): try await synchronize(request, id)
        case .flush(let request): try await flush(request, id)
        case .listConflicts: session.reply(to: id, .conflicts(services.conflicts()))
        case .resolveConflict(let request): try await resolve(request, id)
        case .takeOverMount(let request): try handOver(request.mountPath, id)
        case .shutdown(let request):
            let mounts = services.sessions.mounts().count
            guard request.force || mounts == 0 else {
                throw CoordinationError(.resourceBusy, "\(mounts) mounts are attached; unmount them or use --force")
            }
            session.reply(to: id, .done(.init()))
            services.stop()
        default: throw CoordinationError(.notSupported, "the coordinator does not take this message")
        }
    }

    /// What is known of an inode, without asking a store.
    func describe(_ inode: UInt64) throws(CoordinationError) -> WireDescription {
        let record = try visible(inode)
        var description = WireDescription()
        description.attributes = services.namespace.attributes(inode, record)
        description.version = record.attributes.version?.description ?? ""
        let mount = try services.namespace.mountPoint(of: record)
        let path = mount == nil ? record.name : try services.namespace.storePath(of: record)
        if let mount {
            let source = mount.source.hasSuffix("/") ? String(mount.source.dropLast()) : mount.source
            description.url = path.isEmpty ? source : "\(source)/\(path)"
            description.path = "/\(path.isEmpty ? mount.path : mount.path.isEmpty ? path : mount.path + "/" + path)"
        } else {
            description.path = "/\(path)"
        }
        if let id = try services.leases.cachedID(record) {
            let cached = services.cache.presence(of: id)
            description.cachedBytes = cached.bytes
            description.tier = cached.tierPath.flatMap(services.tierKind) ?? ""
        }
        return description
    }

    private func synchronize(_ request: WireSynchronize, _ id: UInt64) async throws(CoordinationError) {
        var silent: [ClientSession] = []
        try await services.namespace.synchronize(request.inode) {
            silent += await services.sessions.settle(within: services.patience, except: silent)
        }
        guard silent.isEmpty else {
            let names = silent.map { "\($0.mountPath) (pid \($0.session.peer.pid))" }.joined(separator: ", ")
            services.logger.warning("a synchronization was not confirmed", metadata: ["mounts": "\(names)"])
            throw CoordinationError(
                .timedOut,
                "all mounts were told, but not confirmed within \(services.patience): \(names); is it stopped?"
                    + " Until it goes on it may show what it knew")
        }
        session.reply(to: id, .done(.init()))
    }

    private func flush(_ request: WireFlush, _ id: UInt64) async throws(CoordinationError) {
        let record = try visible(request.inode)
        var progress = WireProgress()
        progress.end = true
        progress.totalKnown = true
        let mount = try services.namespace.mountPoint(of: record)
        let path = mount == nil ? "" : try services.namespace.storePath(of: record)
        let outcome = await services.changes.staging.flush { file in
            let target = file.target
            // A directory that only leads to mount points stands for all of them.
            guard let mount else { return true }
            guard target.store.identity == mount.store.identity else { return false }
            return path.isEmpty || target.path == path || target.path.hasPrefix(path + "/")
        }
        progress.filesDone = UInt64(outcome.files)
        progress.bytesDone = outcome.bytes
        progress.failures = UInt64(outcome.failures.count)
        progress.lastError = outcome.failures.last?.error.message ?? ""
        progress.filesTotal = progress.filesDone
        progress.bytesTotal = progress.bytesDone
        session.reply(to: id, .progress(progress))
    }

    private func resolve(_ request: WireResolveConflict, _ id: UInt64) async throws(CoordinationError) {
        let staging = services.changes.staging
        switch request.action {
        case .discard: try await staging.discardConflict(request.number)
        default:
            _ = try await staging.restore(
                request.number, to: request.path.isEmpty ? nil : ByteString(request.path))
        }
        session.reply(to: id, .done(.init()))
    }

    private func measure(_ inode: UInt64) async throws(CoordinationError) -> WireUsage {
        var usage = WireUsage()
        try await TreeWalk(namespace: services.namespace).run(from: inode) { (_, record) throws(CoordinationError) in
            switch record.attributes.kind {
            case .directory: usage.directories += 1
            case .file, .symbolicLink, .special:
                usage.files += 1
                usage.bytes += record.attributes.size
                if let id = try services.leases.cachedID(record) {
                    usage.cachedBytes += services.cache.presence(of: id).bytes
                }
            }
        }
        return usage
    }

    private func free(_ inode: UInt64) async throws(CoordinationError) -> WireUsage {
        var usage = WireUsage()
        try await TreeWalk(namespace: services.namespace).run(from: inode) { (_, record) throws(CoordinationError) in
            guard let id = try services.leases.cachedID(record) else { return }
            let before = services.cache.presence(of: id).bytes
            // What is leased as a whole stays until its readers have gone.
            guard services.cache.free(id) > 0 else { return }
            usage.files += 1
            usage.cachedBytes += before
        }
        return usage
    }
}
