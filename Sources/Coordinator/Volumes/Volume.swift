import Coordination
import Crypto
import Platform

/// A namespace that mounts are attached to: mount points over stores, under one root.
package final class Volume: Sendable {
    /// Digest of the specification: mounts that ask for the same namespace share one volume.
    let key: String
    package let root: UInt64
    /// For people: the sources, shortened.
    package let source: String
    let mounts: [MountPoint]
    private let mountNumbers: Set<UInt32>
    private let leading: Set<UInt64>

    init(key: String, root: UInt64, source: String, mounts: [MountPoint], leading: Set<UInt64>) {
        self.key = key
        self.root = root
        self.source = source
        self.mounts = mounts
        self.leading = leading
        mountNumbers = Set(mounts.map(\.number))
    }

    /// Whether a session of this volume may see the inode.
    func contains(_ inode: UInt64, _ record: InodeRecord) -> Bool {
        record.mount == 0 ? leading.contains(inode) : mountNumbers.contains(record.mount)
    }
}

extension WireVolumeSpecification {
    /// Equal for specifications that mean the same namespace with the same rights. Secrets enter only as part of a digest.
    var digest: String {
        var hash = SHA256()
        for mount in mounts.sorted(by: { $0.path < $1.path }) {
            var plain = mount
            plain.environment = [:]
            let environment = mount.environment.sorted { $0.key < $1.key }.flatMap { [$0.key, $0.value] }
            let fields = (try? plain.serializedBytes() as [UInt8]) ?? []
            for part in [fields] + environment.map({ Array($0.utf8) }) {
                withUnsafeBytes(of: UInt64(part.count).littleEndian) { hash.update(bufferPointer: $0) }
                hash.update(data: part)
            }
        }
        return hash.finalize().prefix(16).map { String(UInt8($0), radix: 16) }.joined(separator: ".")
    }
}
