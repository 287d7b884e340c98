import BlockCaching
import Coordination
import Coordinator
import Foundation
import Glibc
import Logging
import Platform
import SystemPackage
import Testing
import UnderStores

/// A coordinator in this process over stores of the test's choice, in a directory of its own.
final class CoordinatorFixture {
    let directory: String
    let socket: String
    private let stores: [String: any UnderStore]
    private(set) var daemon: CoordinatorDaemon
    private var run: Task<Void, Never>
    private let bootIdentifier: String

    /// - Parameters:
    ///   - stores: by source URL.
    ///   - other: the directory of a coordinator, whose files are taken as they are now; and what `prepare` makes of the
    ///     state directory before the start.
    init(
        stores: [String: any UnderStore], bootIdentifier: String = "boot-1", quota: UInt64 = 64 << 20,
        mountPatience: Duration = .seconds(60), sessionGrace: Duration = .seconds(60), from other: String? = nil,
        prepare: (String) throws -> Void = { _ in }
    ) throws {
        var template = Array("/tmp/larder-coordinator-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        directory = template.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        socket = directory + "/s"
        if let other {
            for name in ["cache", "state"] {
                try FileManager.default.copyItem(atPath: "\(other)/\(name)", toPath: "\(directory)/\(name)")
            }
        }
        try prepare(directory + "/state")
        self.stores = stores
        self.bootIdentifier = bootIdentifier
        (daemon, run) = try Self.start(
            directory, socket, stores, bootIdentifier, quota, mountPatience, sessionGrace)
    }

    private static func start(
        _ directory: String, _ socket: String, _ stores: [String: any UnderStore], _ boot: String, _ quota: UInt64,
        _ mountPatience: Duration = .seconds(60), _ sessionGrace: Duration = .seconds(60)
    ) throws -> (CoordinatorDaemon, Task<Void, Never>) {
        var cache = CacheConfiguration(
            tiers: [TierConfiguration(path: directory + "/cache", kind: .disk, quota: quota)])
        cache.bootIdentifier = boot
        var configuration = CoordinatorConfiguration(
            socketPath: socket, stateDirectory: directory + "/state", cache: cache, software: "larder test")
        configuration.bootIdentifier = boot
        configuration.mountPatience = mountPatience
        configuration.sessionGrace = sessionGrace
        configuration.makeStore = { specification async throws(StoreError) in
            guard let store = stores[specification.source] else {
                throw StoreError(.invalid, "no store \(specification.source)")
            }
            return store
        }
        var logger = Logger(label: "test")
        logger.logLevel = .error
        let daemon = try CoordinatorDaemon(configuration, logger: logger)
        return (daemon, Task { try? await daemon.run() })
    }

    /// Tries to start a second coordinator on the same directories.
    func startAnother() throws { _ = try Self.start(directory, directory + "/s2", stores, bootIdentifier, 1 << 20) }

    /// Ends the coordinator and removes its directory.
    func finish() async {
        daemon.stop()
        await run.value
        Self.removeTree(directory)
    }

    private static func removeTree(_ path: String) {
        if let directory = opendir(path) {
            while let entry = readdir(directory) {
                let name = withUnsafeBytes(of: entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name == "." || name == ".." { continue }
                let child = path + "/" + name
                if (try? FileStatus(of: child, flags: AT_SYMLINK_NOFOLLOW).isDirectory) == true {
                    removeTree(child)
                } else {
                    unlink(child)
                }
            }
            closedir(directory)
        }
        rmdir(path)
    }

    func client(_ role: WireHello.Role = .mount) throws -> TestClient { try TestClient(socket: socket, role: role) }
}

/// A client with async requests, so that tests read from top to bottom.
final class TestClient: Sendable {
    let client: CoordinatorClient
    let notifications = Lock<[WireEnvelope.OneOf_Body]>([])

    /// - Parameter onInvalidate: what to do with the acknowledgement of each Invalidate; nothing by default.
    init(
        socket: String, role: WireHello.Role,
        onInvalidate: @escaping @Sendable (_ acknowledge: @escaping @Sendable () -> Void) -> Void = { _ in }
    ) throws {
        let notifications = notifications
        client = try CoordinatorClient(
            path: socket, role: role, software: "test",
            onNotification: { body, acknowledge in
                notifications.withLock { $0.append(body) }
                onInvalidate(acknowledge)
            })
    }

    func send(
        _ body: WireEnvelope.OneOf_Body, operation: UInt64 = 0, descriptors: [Descriptor] = []
    ) async throws -> CoordinatorClient.Reply {
        try await withCheckedThrowingContinuation { continuation in
            client.request(body, operation: operation, descriptors: descriptors) { continuation.resume(with: $0) }
        }
    }

    /// - Parameter ttl: milliseconds. An hour, so that no test depends on how long it takes.
    func attach(
        _ mounts: [(path: String, source: String)], ttl: UInt32 = 3_600_000, at mountPath: String = "/test",
        acknowledging: Bool = false, client: ByteString = "", takesOver: Bool = false
    ) async throws -> WireAttached {
        var attach = WireAttach()
        attach.client = client.data
        attach.takesOver = takesOver
        attach.mountPath = mountPath
        attach.acknowledges = acknowledging
        attach.volume.mounts = mounts.map { mount in
            var specification = WireMountSpecification()
            specification.path = mount.path
            specification.source = mount.source
            specification.metadataTtlMilliseconds = ttl
            specification.negativeTtlMilliseconds = ttl
            return specification
        }
        guard case .attached(let attached) = try await send(.attach(attach)).body else { throw Errno.protocolError }
        return attached
    }

    /// nil when there is no such name.
    func lookup(_ parent: UInt64, _ name: ByteString) async throws -> WireAttributes? {
        var lookup = WireLookup()
        lookup.parent = parent
        lookup.name = name.data
        guard case .entry(let entry) = try await send(.lookup(lookup)).body else { throw Errno.protocolError }
        return entry.hasAttributes ? entry.attributes : nil
    }

    func resolve(_ root: UInt64, _ path: ByteString) async throws -> WireAttributes? {
        var inode = root
        var found: WireAttributes?
        for name in path.components {
            guard let next = try await lookup(inode, name) else { return nil }
            found = next
            inode = next.inode
        }
        return found
    }

    func names(_ directory: UInt64) async throws -> [ByteString] {
        var names: [ByteString] = []
        var list = WireList()
        list.directory = directory
        while true {
            guard case .listPage(let page) = try await send(.list(list)).body else { throw Errno.protocolError }
            names += page.entries.map { ByteString($0.name) }
            if page.end { return names }
            list.stream = page.stream
        }
    }

    func open(_ inode: UInt64) async throws -> (opened: WireOpened, descriptors: [Descriptor]) {
        var open = WireOpen()
        open.inode = inode
        let reply = try await send(.open(open))
        guard case .opened(let opened) = reply.body else { throw Errno.protocolError }
        return (opened, reply.descriptors)
    }

    /// Opens, reads all by fetching what is missing, and releases.
    func contents(_ inode: UInt64) async throws -> [UInt8] {
        let (opened, descriptors) = try await open(inode)
        defer {
            var release = WireRelease()
            release.lease = opened.lease
            client.notify(.release(release))
        }
        let size = Int(opened.attributes.size)
        var bytes = [UInt8](repeating: 0, count: size)
        switch opened.grant {
        case .inline(let data): return Array(data)
        case .whole, .source:
            let count = try bytes.withUnsafeMutableBytes { try descriptors[0].read(into: $0, at: 0) }
            return Array(bytes.prefix(count))
        case .mapped, .readThrough:
            var offset = 0
            while offset < size {
                var fetch = WireFetch()
                fetch.lease = opened.lease
                fetch.offset = UInt64(offset)
                fetch.length = UInt64(size - offset)
                let reply = try await send(.fetch(fetch))
                guard case .fetched(let fetched) = reply.body else { throw Errno.protocolError }
                let step = Int(fetched.length)
                let target = offset..<offset + step
                let count = try bytes.withUnsafeMutableBytes { buffer in
                    let part = UnsafeMutableRawBufferPointer(rebasing: buffer[target])
                    if let memory = reply.descriptors.first { return try memory.read(into: part, at: 0) }
                    return try descriptors[0].read(into: part, at: UInt64(offset))
                }
                guard count == step else { throw Errno.ioError }
                offset += step
            }
            return bytes
        default: throw Errno.protocolError
        }
    }
}

/// Records an issue unless `body` fails with `errno`. A function, for `#expect` does not take a closure that throws.
func expectFailure(
    _ errno: Errno, sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Void
) async {
    do {
        try await body()
        Issue.record("succeeded, and should have failed with \(errno)", sourceLocation: sourceLocation)
    } catch {
        let actual = (error as? CoordinationError)?.errno ?? error as? Errno
        #expect(actual == errno, "\(error)", sourceLocation: sourceLocation)
    }
}
