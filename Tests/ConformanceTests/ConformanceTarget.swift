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

    /// The targets to run on: those named in `$LARDER_CONFORMANCE_TARGETS` (separated by commas), else all.
    static var all: [ConformanceTarget] {
        guard let named = getenv("LARDER_CONFORMANCE_TARGETS") else { return allCases }
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
        /// `writable` mounted a second time on the same node; nil where that would say nothing.
        var second: String?
        /// Puts the node's cache under pressure.
        var disturb: @Sendable () -> Void = {}
        /// What Larder has logged, for the message of a failure.
        var logs: @Sendable () -> String = { "" }
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

    /// Where files are exercised.
    func exercisedFileSystem() async throws -> FileSystem {
        self == .s3Mount ? try await Self.pressed.get() : try await fileSystem()
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
        let source = "file://\(node.directory.file("writable"))"
        let writable = try await node.mount(source, "--allow-other")
        let readOnly = try await node.mount(
            "file://\(node.directory.file("read-only"))", "--allow-other", "--read-only")
        return FileSystem(
            writable: writable, readOnly: readOnly, second: try await node.mount(source, "--allow-other"),
            logs: { node.logs() }, owner: node)
    }

    private static let server = SharedInstance { try await MotoServer.start() }

    private static let bucket = SharedInstance {
        let server = try await Self.server.get()
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

    /// A bucket behind a cache that is too small for what is read from it.
    private static let pressed = SharedInstance {
        let server = try await Self.server.get()
        let bucket = try await server.makeBucket()
        let others = (0..<6).map { "other-\($0)" }
        try await bucket.put(others.map { ByteString($0) }, String(repeating: "x", count: 1 << 20))
        let node = try LarderNode(environment: LarderNode.credentials(of: server))
        let writable = try await node.mount(
            bucket, "--cache-size", "8MiB", "--log-level",
            getenv("LARDER_EXERCISER_LOG").map { String(cString: $0) } ?? "info")
        let second = try await node.mount(bucket)
        let rounds = Lock(0)
        return FileSystem(
            writable: writable, readOnly: writable, second: second,
            disturb: {
                let round = rounds.withLock { rounds in
                    rounds += 1
                    return rounds
                }
                let other = Place(root: round % 2 == 0 ? writable : second)
                _ = other.open(others[round % others.count], O_RDONLY).file?.bytes(1 << 20)
                guard round % 8 == 0 else { return }
                let freed = OneShot<Bool>()
                Task { freed.set((try? await node.larder("free", writable))?.code == 0) }
                _ = freed.wait()
            }, logs: { node.logs() }, owner: (node, server))
    }

    /// mkdtemp(3) makes directories that no other user can pass.
    private static func fill(_ directory: TemporaryDirectory) throws {
        try directory.makeDirectory("writable")
        try directory.write("read-only/file", "bytes")
        try directory.makeDirectory("read-only/directory")
        chmod(directory.path, 0o755)
    }
}
