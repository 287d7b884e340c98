import BlockMaps
import CLinux
import Coordination
import Glibc
import Platform
import SystemPackage

/// How the fake coordinator answers an Open.
enum FakeGrant: Sendable {
    case passthrough, whole, mapped, inline, source, readThrough
}

/// What the fake coordinator does with one Fetch.
enum FakeFetch: Sendable {
    case serve
    /// The bytes of the asked range come as a memory file.
    case memory
    /// Served, and evicted again before the reader is told.
    case evict
    case fail(Errno)
    case never
}

/// One version of a file in the fake coordinator.
final class FakeFile: @unchecked Sendable {
    let bytes: [UInt8]
    let grant: FakeGrant
    let blockSize: Int
    let cache: Descriptor
    let map: BlockMap?
    private let writing = Lock(())

    init(_ bytes: [UInt8], _ grant: FakeGrant, blockSize: Int, path: String) throws {
        self.bytes = bytes
        self.grant = grant
        self.blockSize = blockSize
        cache = try Descriptor.open(path, O_RDWR | O_CREAT | O_TRUNC, mode: 0o644)
        try cache.resize(to: UInt64(bytes.count))
        if grant == .mapped {
            guard let geometry = BlockGeometry(objectSize: UInt64(bytes.count), blockSize: blockSize) else {
                throw Errno.invalidArgument
            }
            map = try BlockMap(geometry, digest: ObjectDigest(high: 1, low: 2))
        } else {
            map = nil
            try bytes.withUnsafeBytes { try cache.write($0, at: 0) }
        }
    }

    /// Writes the blocks that cover `range` and shows them to readers.
    func fill(_ range: Range<UInt64>) throws {
        guard let map else { return }
        try writing.withLock { _ in
            for block in map.geometry.blocks(covering: range) where !map.isPresent(block) {
                let part = map.geometry.bytes(of: block..<block + 1)
                try bytes[Int(part.lowerBound)..<Int(part.upperBound)].withUnsafeBytes {
                    try cache.write($0, at: part.lowerBound)
                }
                map.markPresent(block, checksum: 0)
            }
        }
    }

    /// Withdraws blocks and overwrites them with garbage, so that a reader who trusts them wrongly is found out.
    func evict(_ range: Range<UInt64>) throws {
        guard let map else { return }
        try writing.withLock { _ in
            let blocks = map.geometry.blocks(covering: range)
            map.clear(blocks)
            let part = map.geometry.bytes(of: blocks)
            let garbage = [UInt8](repeating: 0xEE, count: Int(part.upperBound - part.lowerBound))
            try garbage.withUnsafeBytes { try cache.write($0, at: part.lowerBound) }
        }
    }
}

/// The names and versions that the fake coordinator knows. Inode numbers are never used again.
struct FakeTree: Sendable {
    static let root: UInt64 = 1000

    enum Content: Sendable {
        case directory
        case file(FakeFile)
        case link(String)
        case node(mode: UInt32)
    }
    struct Node: Sendable {
        var parent: UInt64
        var name: ByteString
        var content: Content
        var isSuperseded = false
    }

    var nodes: [UInt64: Node] = [root: Node(parent: root, name: "", content: .directory)]
    var children: [UInt64: [ByteString: UInt64]] = [root: [:]]
    /// Names of an inode beyond its first.
    var moreLinks: [UInt64: Int] = [:]
    private var next: UInt64 = root + 1

    /// Adds a name; one that exists is superseded by the new version.
    mutating func add(_ name: ByteString, _ content: Content, in parent: UInt64 = root) -> UInt64 {
        if let old = children[parent]?[name] { nodes[old]?.isSuperseded = true }
        defer { next += 1 }
        nodes[next] = Node(parent: parent, name: name, content: content)
        children[parent, default: [:]][name] = next
        if case .directory = content { children[next] = [:] }
        return next
    }

    /// Removes a name; the inode goes with its last one.
    mutating func remove(_ name: ByteString, in parent: UInt64) {
        guard let inode = children[parent]?.removeValue(forKey: name) else { return }
        let more = moreLinks[inode] ?? 0
        if more > 0 { moreLinks[inode] = more - 1 } else { nodes[inode]?.isSuperseded = true }
    }

    func attributes(_ inode: UInt64, ttl: UInt32) -> WireAttributes? {
        guard let node = nodes[inode], !node.isSuperseded else { return nil }
        var attributes = WireAttributes()
        attributes.inode = inode
        attributes.uid = getuid()
        attributes.gid = getgid()
        attributes.links = UInt32(1 + (moreLinks[inode] ?? 0))
        attributes.modifiedSeconds = 1_700_000_000
        attributes.ttlMilliseconds = ttl
        switch node.content {
        case .directory: attributes.mode = S_IFDIR | 0o755
        case .node(let mode): attributes.mode = mode
        case .link(let target):
            attributes.mode = S_IFLNK | 0o777
            attributes.size = UInt64(target.utf8.count)
        case .file(let file):
            attributes.mode = S_IFREG | 0o644
            attributes.size = UInt64(file.bytes.count)
            attributes.blocks = (attributes.size + 511) / 512
        }
        return attributes
    }
}
