import Glibc
import Platform
import TestSupport

/// A kind of file system that the suite runs on.
enum ConformanceTarget: String, CaseIterable, Sendable, CustomStringConvertible {
    /// A directory of the machine's own file system: what the suite takes for right is checked here.
    case ext4
    /// A Larder mount of a local directory.
    case localMount
    /// A Larder mount of a bucket.
    case s3Mount

    var description: String { rawValue }

    /// The targets to run on: those named in `$LARDER_CONFORMANCE_TARGETS` (separated by commas), else ext4.
    static var all: [ConformanceTarget] {
        guard let named = getenv("LARDER_CONFORMANCE_TARGETS") else { return [.ext4] }
        let names = String(cString: named).split(separator: ",").map(String.init)
        let unknown = names.filter { ConformanceTarget(rawValue: $0) == nil }
        precondition(unknown.isEmpty, "unknown targets: \(unknown)")
        return names.compactMap(ConformanceTarget.init(rawValue:))
    }

    struct FileSystem: Sendable {
        /// Where the cases make their directories; others than root may use it.
        let writable: String
        /// The same kind of file system, read-only, with the file "file" and the directory "directory" in it.
        let readOnly: String
        /// What has to live as long as the paths.
        fileprivate let owner: any Sendable
    }

    /// The file system of this target, which all cases of a run share.
    func fileSystem() async throws -> FileSystem {
        switch self {
        case .ext4: try await Self.plain.get()
        case .localMount: try await Self.local.get()
        case .s3Mount: try await Self.bucket.get()
        }
    }

    private static let plain = SharedInstance {
        let directory = try TemporaryDirectory()
        try Self.fill(directory)
        // Made read-only by each case that needs it, in a mount namespace of its own: see `Scene.readOnly`.
        return FileSystem(
            writable: directory.file("writable"), readOnly: directory.file("read-only"), owner: directory)
    }

    private static let local = SharedInstance {
        let node = try LarderNode()
        try Self.fill(node.directory)
        let writable = try await node.mount("file://\(node.directory.file("writable"))", "--allow-other")
        let readOnly = try await node.mount(
            "file://\(node.directory.file("read-only"))", "--allow-other", "--read-only")
        return FileSystem(writable: writable, readOnly: readOnly, owner: node)
    }

    private static let bucket = SharedInstance {
        let server = try await MotoServer.start()
        let (bucket, sealed) = (try await server.makeBucket(), try await server.makeBucket())
        try await sealed.put("file", "bytes")
        try await sealed.put("directory/other", "bytes")
        let node = try LarderNode(environment: LarderNode.credentials(of: server))
        chmod(node.directory.path, 0o755)
        chmod(node.directory.file("mnt"), 0o755)
        let writable = try await node.mount(bucket, "--allow-other")
        let readOnly = try await node.mount(sealed, "--allow-other", "--read-only")
        return FileSystem(writable: writable, readOnly: readOnly, owner: (node, server))
    }

    /// mkdtemp(3) makes directories that no other user can pass.
    private static func fill(_ directory: TemporaryDirectory) throws {
        try directory.makeDirectory("writable")
        try directory.write("read-only/file", "bytes")
        try directory.makeDirectory("read-only/directory")
        chmod(directory.path, 0o755)
    }
}
