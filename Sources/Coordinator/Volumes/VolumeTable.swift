import Coordination
import Logging
import Platform
import SystemPackage
import UnderStores

/// The attached volumes. Attaching checks each store, then gives its root a place in the namespace.
package final class VolumeTable: Sendable {
    private let namespace: Namespace
    private let makeStore: StoreFactory
    private let flights: SingleFlight<String, Volume>
    private let volumes = Lock<[String: Volume]>([:])
    /// Called with each new volume before a session sees it.
    private let prepare: @Sendable (Volume) async -> Void
    private let logger: Logger

    init(
        namespace: Namespace, makeStore: @escaping StoreFactory, pool: WorkerPool, logger: Logger,
        prepare: @escaping @Sendable (Volume) async -> Void
    ) {
        self.prepare = prepare
        self.namespace = namespace
        self.makeStore = makeStore
        self.logger = logger
        flights = SingleFlight(pool: pool)
    }

    /// Finds or makes the volume of a specification.
    ///
    /// - Parameter resuming: the mount was attached before the coordinator restarted; a store that cannot be reached now is
    ///   no reason to refuse it.
    /// - Throws: EINVAL for overlapping or malformed mount points; what a store's first answer maps to.
    package func attach(
        _ specification: WireVolumeSpecification, resuming: Bool
    ) async throws(CoordinationError) -> Volume {
        let key = specification.digest
        if let known = volumes.withLock({ $0[key] }) { return known }
        return try await flights.run(key) { [self] () async throws(CoordinationError) in
            let volume = try await make(specification, key: key, resuming: resuming)
            await prepare(volume)
            volumes.withLock { $0[key] = volume }
            return volume
        }
    }

    package func all() -> [Volume] { volumes.withLock { Array($0.values) } }

    private func make(
        _ specification: WireVolumeSpecification, key: String, resuming: Bool
    ) async throws(CoordinationError) -> Volume {
        guard !specification.mounts.isEmpty else {
            throw CoordinationError(.invalidArgument, "the namespace has no mount points")
        }
        var mounts: [(MountPoint, ObjectAttributes)] = []
        for mount in specification.mounts.sorted(by: { $0.path < $1.path }) {
            let path = ByteString(ByteString(mount.path).components.map(\.bytes).joined(separator: [UInt8(ascii: "/")]))
            guard !mounts.contains(where: { $0.0.path == path }) else {
                throw CoordinationError(.invalidArgument, "two mount points have the path \(mount.path)")
            }
            guard path.components.allSatisfy(\.isNameable) else {
                throw CoordinationError(.invalidArgument, "\(mount.path) is not a mount point: a part of it is no name")
            }
            mounts.append(try await makeMountPoint(mount, path: path, volume: key, resuming: resuming))
        }
        return arrange(mounts, key: key)
    }

    private func makeMountPoint(
        _ specification: WireMountSpecification, path: ByteString, volume: String, resuming: Bool
    ) async throws(CoordinationError) -> (MountPoint, ObjectAttributes) {
        let store: any UnderStore
        var root = ObjectAttributes(kind: .directory, modified: .now())
        do throws(StoreError) {
            store = try await makeStore(specification)
            do throws(StoreError) {
                guard let found = try await store.lookup("") else {
                    throw StoreError(.notFound, "\(specification.source) does not exist; correct the source")
                }
                root = found
            } catch {
                guard resuming, error.kind == .unavailable else { throw error }
                logger.warning("a store cannot be reached; its mount goes on", metadata: ["reason": "\(error)"])
            }
        } catch { throw CoordinationError(error) }
        guard root.kind == .directory else {
            throw CoordinationError(.notDirectory, "\(specification.source) is not a directory")
        }
        guard let mode = MountPoint.CacheMode(rawValue: specification.cache.isEmpty ? "auto" : specification.cache)
        else {
            throw CoordinationError(
                .invalidArgument, "cache: \(specification.cache) is unknown; use auto, always or never")
        }
        let isLocal = specification.source.hasPrefix("file:") || specification.source.hasPrefix("/")
        let number = namespace.index.update { transaction in
            UInt32(truncatingIfNeeded: transaction.setting("mount \(volume)/\(path)") { transaction.allocateInode() })
        }
        let mount = MountPoint(
            number: number, path: path, source: specification.source, store: store, cacheMode: mode,
            metadataTTL: Self.nanoseconds(
                specification.hasMetadataTtlMilliseconds ? specification.metadataTtlMilliseconds : nil,
                otherwise: isLocal ? 1000 : 60_000),
            negativeTTL: Self.nanoseconds(
                specification.hasNegativeTtlMilliseconds ? specification.negativeTtlMilliseconds : nil,
                otherwise: isLocal ? 1000 : 5000),
            defaults: AttributeDefaults(
                uid: specification.hasUid ? specification.uid : namespace.table.syntheticDefaults.uid,
                gid: specification.hasGid ? specification.gid : namespace.table.syntheticDefaults.gid,
                fileMode: specification.hasFileMode ? specification.fileMode & 0o7777 : 0o644,
                directoryMode: specification.hasDirectoryMode ? specification.directoryMode & 0o7777 : 0o755),
            lendsSource: isLocal && mode != .always, isReadOnly: specification.readOnly,
            writeTypes: try Self.writeTypes(specification))
        return (mount, root)
    }

    /// Throws EINVAL.
    private static func writeTypes(
        _ specification: WireMountSpecification
    ) throws(CoordinationError) -> [(prefix: ByteString, type: WriteType)] {
        var types: [(prefix: ByteString, type: WriteType)] = []
        for (path, name) in specification.writeTypes.merging(["": specification.writeType], uniquingKeysWith: { $1 }) {
            guard let type = WriteType(name: name) else {
                let known = WriteType.allCases.map(\.name).joined(separator: ", ")
                throw CoordinationError(.invalidArgument, "write type \(name) is unknown; use one of \(known)")
            }
            let prefix = ByteString(path).components.map(\.bytes).joined(separator: [UInt8(ascii: "/")])
            types.append((ByteString(prefix), type))
        }
        return types
    }

    private static func nanoseconds(_ milliseconds: UInt32?, otherwise: UInt32) -> UInt64 {
        UInt64(milliseconds ?? otherwise) * 1_000_000
    }

    /// Gives every mount point's root an inode, and makes the directories that lead to them.
    private func arrange(_ mounts: [(MountPoint, ObjectAttributes)], key: String) -> Volume {
        var leading = Set<UInt64>()
        for (mount, _) in mounts { namespace.table.add(mount) }
        let rootMount = mounts.first { $0.0.path.isEmpty }
        let root = place(key, "", rootMount, leading: &leading)
        for mounted in mounts where !mounted.0.path.isEmpty {
            var parent = root
            var covering = rootMount?.0
            var path: ByteString = ""
            let parts = mounted.0.path.components
            for (position, name) in parts.enumerated() {
                path = path.appending(component: name)
                let here = mounts.first { $0.0.path == path }
                let inode: UInt64
                if position == parts.count - 1 || here != nil || covering == nil {
                    inode = place(key, path, here, leading: &leading)
                } else {
                    inode = placeWithin(covering, key, path, parent: parent, name: name)
                }
                namespace.table.addOverlay(in: parent, named: name, inode: inode)
                parent = inode
                covering = here?.0 ?? covering
            }
        }
        return Volume(
            key: key, root: root, source: mounts.map(\.0.source).joined(separator: ", "), mounts: mounts.map(\.0),
            leading: leading)
    }

    private func place(
        _ key: String, _ path: ByteString, _ mounted: (MountPoint, ObjectAttributes)?, leading: inout Set<UInt64>
    ) -> UInt64 {
        let (inode, isNew) = namespace.index.update { transaction -> (UInt64, Bool) in
            let inode = transaction.setting("root \(key)/\(path)") { transaction.allocateInode() }
            let attributes = mounted?.1 ?? ObjectAttributes(kind: .directory, modified: .now(), links: 2)
            var record = InodeRecord(
                mount: mounted?.0.number ?? 0, parent: 0, name: path.components.last ?? "", attributes: attributes,
                expiry: .max)
            let known = transaction.record(inode)
            record.listedUntil = known?.listedUntil ?? 0
            record.listing = known?.listing ?? 0
            transaction.setRecord(inode, record)
            return (inode, known == nil)
        }
        if let mounted { namespace.table.setRoot(of: mounted.0.number, inode) } else { leading.insert(inode) }
        if isNew { logger.debug("new root", metadata: ["path": "/\(path)", "inode": "\(inode)"]) }
        return inode
    }

    /// A directory inside a store's tree that leads to a nested mount point, whether or not the store has it. It is no
    /// entry of the index's directory, where a listing would remove what the store does not show.
    private func placeWithin(
        _ mount: MountPoint?, _ key: String, _ path: ByteString, parent: UInt64, name: ByteString
    ) -> UInt64 {
        namespace.index.update { transaction in
            let inode = transaction.setting("within \(key)/\(path)") { transaction.allocateInode() }
            var record = InodeRecord(
                mount: mount?.number ?? 0, parent: parent, name: name,
                attributes: ObjectAttributes(kind: .directory, modified: .now(), links: 2), expiry: .max)
            record.listing = transaction.record(inode)?.listing ?? 0
            transaction.setRecord(inode, record)
            return inode
        }
    }
}
