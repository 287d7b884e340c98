import Coordination
import Glibc
import Platform
import SystemPackage
import Testing

@testable import Coordinator
@testable import UnderStores

/// A change that is sent again to the successor of a coordinator that was killed just before it made the change, or just
/// after: it is done, and what the first attempt has done is no error.
@Suite struct KilledChangeTests {
    enum Change: CaseIterable {
        case makeDirectory, makeNode, makeLink, makeHardLink, create, remove, removeDirectory, rename, exchange
        case createAttribute, removeAttribute, setMode

        /// Of a store of objects; nil for what it has not, or notes otherwise.
        var call: StoreCallLog.Operation? {
            switch self {
            case .makeDirectory: .makeDirectory
            case .makeNode: .put
            case .makeLink: .makeLink
            case .remove: .remove
            case .removeDirectory: .removeDirectory
            case .createAttribute, .removeAttribute, .setMode: .copy
            case .makeHardLink, .create, .rename, .exchange: nil
            }
        }
    }

    private static let client = ByteString((1...16).map { UInt8($0) })
    private static let file: ByteString = "file"
    private static let attribute: ByteString = "user.old"

    /// The request, with the inode numbers that it needs.
    private func request(_ change: Change, _ client: TestClient, _ root: UInt64) async throws -> WireEnvelope.OneOf_Body
    {
        let (new, file, directory) = (ByteString("new").data, Self.file.data, ByteString("directory").data)
        switch change {
        case .makeDirectory:
            var request = WireMakeDirectory()
            (request.parent, request.name, request.mode) = (root, new, 0o755)
            return .makeDirectory(request)
        case .makeNode:
            var request = WireMakeNode()
            (request.parent, request.name, request.mode) = (root, new, S_IFREG | 0o644)
            return .makeNode(request)
        case .makeLink:
            var request = WireMakeSymbolicLink()
            (request.parent, request.name, request.target) = (root, new, file)
            return .makeSymbolicLink(request)
        case .makeHardLink:
            var request = WireMakeHardLink()
            (request.parent, request.name) = (root, new)
            request.inode = try #require(try await client.lookup(root, Self.file)).inode
            return .makeHardLink(request)
        case .create:
            var request = WireCreate()
            (request.parent, request.name, request.mode) = (root, new, 0o644)
            request.flags = UInt32(O_RDWR | O_CREAT | O_EXCL)
            return .create(request)
        case .remove:
            var request = WireRemove()
            (request.parent, request.name) = (root, file)
            return .remove(request)
        case .removeDirectory:
            var request = WireRemove()
            (request.parent, request.name, request.directory) = (root, directory, true)
            return .remove(request)
        case .rename, .exchange:
            var request = WireRename()
            (request.parent, request.name, request.newParent) = (root, file, root)
            request.newName = change == .rename ? new : directory
            request.flags = change == .rename ? 0 : 2
            return .rename(request)
        case .createAttribute:
            var request = WireSetExtendedAttribute()
            request.inode = try #require(try await client.lookup(root, Self.file)).inode
            (request.name, request.value, request.flags) = (ByteString("user.new").data, ByteString("1").data, 1)
            return .setExtendedAttribute(request)
        case .removeAttribute:
            var request = WireRemoveExtendedAttribute()
            request.inode = try #require(try await client.lookup(root, Self.file)).inode
            request.name = Self.attribute.data
            return .removeExtendedAttribute(request)
        case .setMode:
            var request = WireSetAttributes()
            request.inode = try #require(try await client.lookup(root, Self.file)).inode
            request.mode = 0o640
            return .setAttributes(request)
        }
    }

    private func attributes(_ client: TestClient, _ inode: UInt64) async throws -> [ByteString] {
        var request = WireListExtendedAttributes()
        request.inode = inode
        guard case .extendedAttributeNames(let names) = try await client.send(.listExtendedAttributes(request)).body
        else { throw Errno.protocolError }
        return names.names.map { ByteString($0) }
    }

    /// Sends the change, kills the coordinator when `gate` is reached, and sends it again to the successor.
    private func run(
        _ change: Change, _ source: String, killed: any UnderStore, successor: any UnderStore, _ gate: FaultGate,
        arm: () -> Void
    ) async throws {
        let fixture = try CoordinatorFixture(stores: [source: killed])
        let first = try fixture.client()
        let root = try await first.attach([("/", source)], client: Self.client).root
        for name in [Self.file, "directory", "new"] as [ByteString] { _ = try await first.lookup(root, name) }
        let inode = try await first.lookup(root, Self.file)?.inode
        let body = try await request(change, first, root)
        arm()
        let sending = Task { _ = try? await first.send(body, operation: 9) }
        await gate.waitForArrivals(1)
        let next = try CoordinatorFixture(stores: [source: successor], from: fixture.directory)
        do {
            let client = try next.client()
            #expect(try await client.attach([("/", source)], client: Self.client).root == root)
            let answer = try await client.send(body, operation: 9)
            try await expect(change, answer.body, client, root, inode)
            #expect(try next.daemon.services.changes.journal.unansweredIntents().isEmpty)
            let again = try await client.send(body, operation: 9)
            if change != .create { #expect(again.body == answer.body, "it is answered as before") }
        } catch {
            Issue.record("\(error)")
        }
        await next.finish()
        gate.open()
        await sending.value
        await fixture.finish()
    }

    private func expect(
        _ change: Change, _ answer: WireEnvelope.OneOf_Body, _ client: TestClient, _ root: UInt64, _ inode: UInt64?
    ) async throws {
        let (new, file) = (try await client.lookup(root, "new"), try await client.lookup(root, Self.file))
        switch change {
        case .makeDirectory, .makeNode, .makeLink, .makeHardLink:
            guard case .entry(let entry) = answer else { throw Errno.protocolError }
            #expect(new?.inode == entry.attributes.inode && new?.mode == entry.attributes.mode)
            if change == .makeHardLink { #expect(new?.inode == file?.inode && new?.links == 2) }
        case .create:
            guard case .created(let created) = answer else { throw Errno.protocolError }
            #expect(new?.inode == created.entry.attributes.inode)
        case .remove: #expect(file == nil)
        case .removeDirectory: #expect(try await client.lookup(root, "directory") == nil)
        case .rename: #expect(new?.inode == inode && file == nil)
        case .exchange:
            #expect(try await client.lookup(root, "directory")?.inode == inode)
            #expect(file.map { $0.mode & S_IFMT } == S_IFDIR)
        case .createAttribute: #expect(try await attributes(client, try #require(file).inode).contains("user.new"))
        case .removeAttribute: #expect(try await !attributes(client, try #require(file).inode).contains(Self.attribute))
        case .setMode: #expect(file?.mode == S_IFREG | 0o640 && file?.inode == inode)
        }
    }

    @Test(arguments: Change.allCases, HeldFiles.Moment.allCases)
    func aChangeOfALocalDirectoryIsDoneOnce(change: Change, killed: HeldFiles.Moment) async throws {
        var template = Array("/tmp/larder-killed-XXXXXX".utf8CString)
        let path = try #require(mkdtemp(&template).map { String(cString: $0) })
        defer {
            for name in ["file", "new", "directory"] where unlink("\(path)/\(name)") != 0 { rmdir("\(path)/\(name)") }
            rmdir(path)
        }
        try [UInt8]("x".utf8).withUnsafeBytes {
            try Descriptor.open("\(path)/file", O_RDWR | O_CREAT, mode: 0o644).write($0, at: 0)
        }
        try ExtendedAttribute.set("user.old", to: "1", of: "\(path)/file")
        mkdir("\(path)/directory", 0o755)
        let store = HeldFiles(try LocalStore(root: path))
        try await run(
            change, "file://\(path)", killed: store, successor: try LocalStore(root: path), store.gate
        ) { store.hold(killed) }
    }

    @Test(arguments: Change.allCases.filter { $0.call != nil }, HeldFiles.Moment.allCases)
    func aChangeOfABucketIsDoneOnce(change: Change, killed: HeldFiles.Moment) async throws {
        let call = try #require(change.call)
        let memory = MemoryStore()
        memory.put("directory/", [])
        var metadata = WrittenMetadata()
        metadata.extendedAttributes = ["old": "1"]
        _ = try await memory.put(
            Self.file, uploadBody(Array("x".utf8)), metadata, if: .none)
        let faults = FaultStore(memory)
        let gate = FaultGate()
        try await run(change, "s3://bucket", killed: faults, successor: memory, gate) {
            faults.add(.init(call, calls: 1...1, killed == .before ? .hold(gate) : .pause(after: 0, gate)))
        }
    }

    private func uploadBody(_ bytes: [UInt8]) throws -> UploadBody {
        let file = try Descriptor.memory(named: "larder-test")
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        return UploadBody(file: file, range: 0..<UInt64(bytes.count))
    }

    @Test func aNameThatSomebodyElseHasMadeSinceTheRemovalStays() async throws {
        let memory = MemoryStore()
        memory.put("file", Array("1".utf8))
        let faults = FaultStore(memory)
        let gate = FaultGate()
        let fixture = try CoordinatorFixture(stores: ["s3://bucket": faults])
        let first = try fixture.client()
        let root = try await first.attach([("/", "s3://bucket")], client: Self.client).root
        let body = try await request(.remove, first, root)
        faults.add(.init(.remove, calls: 1...1, .pause(after: 0, gate)))
        let sending = Task { _ = try? await first.send(body, operation: 9) }
        await gate.waitForArrivals(1)
        memory.put("file", Array("somebody else's".utf8))
        let next = try CoordinatorFixture(stores: ["s3://bucket": memory], from: fixture.directory)
        do {
            let client = try next.client()
            _ = try await client.attach([("/", "s3://bucket")], client: Self.client)
            _ = try await client.send(body, operation: 9)
            #expect(memory.bytes(of: "file") == Array("somebody else's".utf8))
        } catch { Issue.record("\(error)") }
        await next.finish()
        gate.open()
        await sending.value
        await fixture.finish()
    }

    @Test func aRefusedCreationLeavesNoIntent() async throws {
        var template = Array("/tmp/larder-killed-XXXXXX".utf8CString)
        let path = try #require(mkdtemp(&template).map { String(cString: $0) })
        defer { rmdir(path) }
        mkdir("\(path)/new", 0o755)
        defer { rmdir("\(path)/new") }
        let fixture = try CoordinatorFixture(stores: ["file://\(path)": try LocalStore(root: path)])
        let client = try fixture.client()
        let root = try await client.attach([("/", "file://\(path)")], client: Self.client).root
        for change in [Change.create, .makeDirectory, .makeLink] {
            let body = try await request(change, client, root)
            await expectErrno(.fileExists) { _ = try await client.send(body, operation: 3) }
        }
        #expect(try fixture.daemon.services.changes.journal.unansweredIntents().isEmpty)
        await fixture.finish()
    }
}
