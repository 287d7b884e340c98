import Coordination
import Coordinator
import Glibc
import Platform
import SystemPackage
import Testing
import UnderStores

/// Changes of names and contents through the coordinator's protocol, on an object store in memory.
@Suite struct ChangeTests {
    private struct Lake {
        let fixture: CoordinatorFixture
        let store: MemoryStore
        let client: TestClient
        let root: UInt64
    }

    private func withLake(_ fill: (MemoryStore) -> Void = { _ in }, _ body: (Lake) async throws -> Void) async throws {
        let store = MemoryStore()
        fill(store)
        let fixture = try CoordinatorFixture(stores: ["s3://bucket": store])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://bucket")]).root
        do { try await body(Lake(fixture: fixture, store: store, client: client, root: root)) } catch {
            await fixture.finish()
            throw error
        }
        await fixture.finish()
    }

    @Test func aCreatedFileIsSeenAtOnceAndIsInTheStoreAfterItsCommit() async throws {
        try await withLake { lake in
            let made = try await lake.client.create(lake.root, "new.txt")
            let seen = try await lake.client.lookup(lake.root, "new.txt")
            #expect(seen?.inode == made.inode, "a file that is being written is in the namespace")
            #expect(lake.store.bytes(of: "new.txt") == nil, "nothing is in the store before the commit")
            try made.write("hello", at: 0)
            let live = try await lake.client.lookup(lake.root, "new.txt")
            #expect(live?.size == 5, "its size is that of the staged file")
            try await lake.client.commit(made.lease)
            #expect(lake.store.bytes(of: "new.txt") == Array("hello".utf8))
            let after = try await lake.client.lookup(lake.root, "new.txt")
            #expect(after?.inode == made.inode, "a commit keeps the inode")
        }
    }

    @Test func anExistingFileIsChangedInPlaceAndReadFromTheCacheAfterwards() async throws {
        try await withLake({ $0.put("a", Array("0123456789".utf8)) }) { lake in
            let file = try #require(try await lake.client.lookup(lake.root, "a"))
            let opened = try await lake.client.openToWrite(file.inode)
            try opened.write("XY", at: 4)
            try await lake.client.commit(opened.lease)
            #expect(lake.store.bytes(of: "a") == Array("0123XY6789".utf8))
            lake.client.release(opened.lease)
        }
    }

    @Test func truncationAtOpenDropsTheOldBytesWithoutReadingThem() async throws {
        try await withLake({ $0.put("a", Array("0123456789".utf8)) }) { lake in
            let file = try #require(try await lake.client.lookup(lake.root, "a"))
            let opened = try await lake.client.openToWrite(file.inode, O_WRONLY | O_TRUNC)
            try opened.write("new", at: 0)
            try await lake.client.commit(opened.lease)
            #expect(lake.store.bytes(of: "a") == Array("new".utf8))
            #expect(lake.store.calls.count(.read) == 0)
        }
    }

    @Test func aFileThatIsRenamedWhileItIsUploadedIsInTheStoreUnderItsNewNameOnly() async throws {
        let store = MemoryStore()
        let faults = FaultStore(store)
        let fixture = try CoordinatorFixture(stores: ["s3://bucket": faults])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://bucket")]).root
        let gate = FaultGate()
        faults.add(.init(.put, .hold(gate)))
        let made = try await client.create(root, "old")
        try made.write("bytes", at: 0)
        async let commit: Void = client.commit(made.lease)
        await gate.waitForArrivals(1)
        async let rename: Void = client.rename(root, "old", root, "new")
        gate.open()
        try await commit
        try await rename
        try await client.commit(made.lease)
        #expect(store.bytes(of: "new") == Array("bytes".utf8) && store.bytes(of: "old") == nil)
        client.release(made.lease)
        await fixture.finish()
    }

    @Test func aNewFileIsListedBesideWhatTheStoreShowsExactlyOnce() async throws {
        try await withLake({ $0.put("d/old", [1]) }) { lake in
            let directory = try #require(try await lake.client.lookup(lake.root, "d"))
            let made = try await lake.client.create(directory.inode, "new")
            #expect(try await lake.client.names(in: directory.inode).sorted() == ["new", "old"])
            try await lake.client.commit(made.lease)
            #expect(try await lake.client.names(in: directory.inode).sorted() == ["new", "old"])
        }
    }

    @Test func directoriesAreMadeAndRemovedAndAFullOneIsNot() async throws {
        try await withLake { lake in
            let made = try await lake.client.makeDirectory(lake.root, "d", mode: 0o750)
            #expect(made.mode == S_IFDIR | 0o750)
            #expect(lake.store.keys == ["d/"])
            let file = try await lake.client.create(made.inode, "f")
            let full = await lake.client.errno { try await $0.remove(lake.root, "d", directory: true) }
            #expect(full == .directoryNotEmpty, "an uncommitted file counts as well")
            try await lake.client.commit(file.lease)
            lake.client.release(file.lease)
            try await lake.client.remove(made.inode, "f")
            try await lake.client.remove(lake.root, "d", directory: true)
            #expect(lake.store.keys.isEmpty)
            #expect(try await lake.client.lookup(lake.root, "d") == nil)
        }
    }

    @Test func aDirectoryThatWasInferredFromItsKeysOutlivesItsLastFile() async throws {
        try await withLake({ $0.put("d/only", [1]) }) { lake in
            let directory = try #require(try await lake.client.lookup(lake.root, "d"))
            try await lake.client.remove(directory.inode, "only")
            #expect(try await lake.client.lookup(lake.root, "d")?.inode == directory.inode)
            #expect(lake.store.keys == ["d/"])
        }
    }

    @Test func anUncommittedFileThatIsRemovedNeverReachesTheStore() async throws {
        try await withLake { lake in
            let made = try await lake.client.create(lake.root, "gone")
            try made.write("x", at: 0)
            try await lake.client.remove(lake.root, "gone")
            _ = await lake.client.errno { try await $0.commit(made.lease) }
            lake.client.release(made.lease)
            #expect(lake.store.keys.isEmpty)
            #expect(try await lake.client.lookup(lake.root, "gone") == nil)
        }
    }

    @Test func aFileIsRenamedWithItsInodeAndReplacesTheOther() async throws {
        try await withLake({ store in
            store.put("a", Array("aaa".utf8))
            store.put("b", Array("b".utf8))
        }) { lake in
            let file = try #require(try await lake.client.lookup(lake.root, "a"))
            let refused = await lake.client.errno { try await $0.rename(lake.root, "a", lake.root, "b", flags: 1) }
            #expect(refused == .fileExists, "RENAME_NOREPLACE")
            try await lake.client.rename(lake.root, "a", lake.root, "b")
            #expect(lake.store.keys == ["b"])
            #expect(lake.store.bytes(of: "b") == Array("aaa".utf8))
            #expect(try await lake.client.lookup(lake.root, "b")?.inode == file.inode)
            #expect(try await lake.client.lookup(lake.root, "a") == nil)
        }
    }

    @Test func aFileThatIsBeingWrittenIsRenamedForNothingAndCommittedUnderItsNewName() async throws {
        try await withLake { lake in
            let made = try await lake.client.create(lake.root, "part.tmp")
            try made.write("data", at: 0)
            try await lake.client.rename(lake.root, "part.tmp", lake.root, "part")
            try await lake.client.commit(made.lease)
            #expect(lake.store.keys == ["part"])
            #expect(lake.store.bytes(of: "part") == Array("data".utf8))
        }
    }

    @Test func aDirectoryIsRenamedWithAllThatIsBelowWrittenOrNot() async throws {
        try await withLake({ store in
            for number in 0..<50 { store.put(ByteString("t/sub/\(number)"), [UInt8(number)]) }
        }) { lake in
            let directory = try #require(try await lake.client.lookup(lake.root, "t"))
            let made = try await lake.client.create(directory.inode, "open")
            try made.write("x", at: 0)
            try await lake.client.rename(lake.root, "t", lake.root, "u")
            try await lake.client.commit(made.lease)
            #expect(lake.store.keys.count == 51, "fifty files and the new one")
            #expect(lake.store.keys.allSatisfy { $0.hasPrefix("u/") })
            #expect(lake.store.bytes(of: "u/sub/7") == [7])
            #expect(try await lake.client.resolve(lake.root, "u/sub/7") != nil)
            #expect(try await lake.client.lookup(lake.root, "t") == nil)
        }
    }

    @Test func aDirectoryDoesNotGoIntoItself() async throws {
        try await withLake({ $0.put("a/b/c", [1]) }) { lake in
            let outer = try #require(try await lake.client.lookup(lake.root, "a"))
            let inner = try #require(try await lake.client.lookup(outer.inode, "b"))
            let refused = await lake.client.errno { try await $0.rename(lake.root, "a", inner.inode, "x") }
            #expect(refused == .invalidArgument)
        }
    }

    @Test func modesOwnersAndTimesAreKeptWithTheObject() async throws {
        try await withLake({ $0.put("a", Array("abc".utf8)) }) { lake in
            let file = try #require(try await lake.client.lookup(lake.root, "a"))
            var request = WireSetAttributes()
            request.inode = file.inode
            request.mode = 0o4751
            request.uid = 1234
            request.gid = 4321
            request.modified.seconds = 1_000_000
            request.modified.nanoseconds = 5
            let changed = try await lake.client.setAttributes(request)
            #expect(changed.mode == S_IFREG | 0o4751)
            #expect(changed.uid == 1234 && changed.gid == 4321 && changed.modifiedSeconds == 1_000_000)
            let stored = try #require(try await lake.store.lookup("a"))
            #expect(stored.permissions == 0o4751 && stored.uid == 1234 && stored.gid == 4321)
            #expect(stored.modified == FileTime(seconds: 1_000_000, nanoseconds: 5))
            #expect(lake.store.bytes(of: "a") == Array("abc".utf8))
        }
    }

    @Test func truncateWithoutAnOpenFileChangesTheObject() async throws {
        try await withLake({ $0.put("a", Array("0123456789".utf8)) }) { lake in
            let file = try #require(try await lake.client.lookup(lake.root, "a"))
            var request = WireSetAttributes()
            request.inode = file.inode
            request.size = 4
            #expect(try await lake.client.setAttributes(request).size == 4)
            #expect(lake.store.bytes(of: "a") == Array("0123".utf8))
            request.size = 6
            _ = try await lake.client.setAttributes(request)
            #expect(lake.store.bytes(of: "a") == Array("0123\0\0".utf8))
        }
    }

    @Test func aChangeThatIsSentTwiceIsDoneOnce() async throws {
        try await withLake { lake in
            let client = ByteString([UInt8](repeating: 7, count: 16))
            let twin = try lake.fixture.client()
            _ = try await twin.attach([("/", "s3://bucket")], client: client)
            var request = WireMakeDirectory()
            request.parent = lake.root
            request.name = ByteString("once").data
            request.mode = 0o755
            for _ in 0..<2 {
                guard case .entry = try await twin.send(.makeDirectory(request), operation: 1).body else {
                    throw Errno.protocolError
                }
            }
            let refused = await twin.errno { _ = try await $0.send(.makeDirectory(request), operation: 2) }
            #expect(refused == .fileExists, "another operation is another directory")
        }
    }

    @Test func anotherMountSeesWhatOneHasClosed() async throws {
        try await withLake({ $0.put("a", Array("old".utf8)) }) { lake in
            let other = try lake.fixture.client()
            let root = try await other.attach([("/", "s3://bucket")]).root
            let file = try #require(try await other.lookup(root, "a"))
            let opened = try await lake.client.openToWrite(file.inode, O_WRONLY | O_TRUNC)
            try opened.write("newer", at: 0)
            try await lake.client.commit(opened.lease)
            lake.client.release(opened.lease)
            #expect(try await other.lookup(root, "a")?.size == 5)
            #expect(try await other.read(file.inode) == Array("newer".utf8))
        }
    }

    @Test func aLostRaceIsStaleAndTheDataIsKept() async throws {
        try await withLake({ $0.put("a", Array("old".utf8)) }) { lake in
            let file = try #require(try await lake.client.lookup(lake.root, "a"))
            let opened = try await lake.client.openToWrite(file.inode)
            try opened.write("mine", at: 0)
            lake.store.put("a", Array("theirs".utf8))
            let lost = await lake.client.errno { try await $0.commit(opened.lease) }
            #expect(lost == .staleNFSFileHandle)
            #expect(lake.store.bytes(of: "a") == Array("theirs".utf8))
        }
    }
}

extension TestClient {
    struct OpenedToWrite {
        let inode: UInt64
        let lease: UInt64
        /// Of the staged file.
        let number: UInt64
        let file: Descriptor

        func write(_ text: String, at offset: UInt64) throws {
            var text = text
            try text.withUTF8 { try file.write(UnsafeRawBufferPointer($0), at: offset) }
        }
    }

    func create(_ parent: UInt64, _ name: ByteString, mode: UInt32 = 0o644) async throws -> OpenedToWrite {
        var request = WireCreate()
        request.parent = parent
        request.name = name.data
        request.mode = mode
        request.flags = UInt32(O_RDWR | O_CREAT | O_EXCL)
        let reply = try await send(.create(request))
        guard case .created(let created) = reply.body, case .staged(let staged) = created.opened.grant else {
            throw Errno.protocolError
        }
        return OpenedToWrite(
            inode: created.entry.attributes.inode, lease: created.opened.lease, number: staged.number,
            file: reply.descriptors[0])
    }

    func openToWrite(_ inode: UInt64, _ flags: CInt = O_RDWR) async throws -> OpenedToWrite {
        var request = WireOpen()
        request.inode = inode
        request.flags = UInt32(flags)
        let reply = try await send(.open(request))
        guard case .opened(let opened) = reply.body, case .staged(let staged) = opened.grant else {
            throw Errno.protocolError
        }
        return OpenedToWrite(
            inode: inode, lease: opened.lease, number: staged.number, file: reply.descriptors[0])
    }

    func commit(_ lease: UInt64, synchronize: Bool = false) async throws {
        var request = WireCommit()
        request.lease = lease
        request.synchronize = synchronize
        request.written = true
        _ = try await send(.commit(request))
    }

    func release(_ lease: UInt64) {
        var request = WireRelease()
        request.lease = lease
        client.notify(.release(request))
    }

    func makeDirectory(_ parent: UInt64, _ name: ByteString, mode: UInt32) async throws -> WireAttributes {
        var request = WireMakeDirectory()
        request.parent = parent
        request.name = name.data
        request.mode = mode
        guard case .entry(let entry) = try await send(.makeDirectory(request)).body else { throw Errno.protocolError }
        return entry.attributes
    }

    func remove(_ parent: UInt64, _ name: ByteString, directory: Bool = false) async throws {
        var request = WireRemove()
        request.parent = parent
        request.name = name.data
        request.directory = directory
        _ = try await send(.remove(request))
    }

    func rename(
        _ parent: UInt64, _ name: ByteString, _ newParent: UInt64, _ newName: ByteString, flags: UInt32 = 0
    ) async throws {
        var request = WireRename()
        request.parent = parent
        request.name = name.data
        request.newParent = newParent
        request.newName = newName.data
        request.flags = flags
        _ = try await send(.rename(request))
    }

    func setAttributes(_ request: WireSetAttributes) async throws -> WireAttributes {
        guard case .entry(let entry) = try await send(.setAttributes(request)).body else { throw Errno.protocolError }
        return entry.attributes
    }

    /// The names that one listing shows, as often as it shows them.
    func names(in directory: UInt64) async throws -> [String] {
        var names: [String] = []
        var stream: UInt64 = 0
        while true {
            var request = WireList()
            request.directory = directory
            request.stream = stream
            guard case .listPage(let page) = try await send(.list(request)).body else { throw Errno.protocolError }
            names += page.entries.map { ByteString($0.name).description }
            if page.end { return names }
            stream = page.stream
        }
    }

    /// Reads a whole file that an open for reading lends.
    func read(_ inode: UInt64) async throws -> [UInt8] {
        var request = WireOpen()
        request.inode = inode
        let reply = try await send(.open(request))
        guard case .opened(let opened) = reply.body else { throw Errno.protocolError }
        defer { release(opened.lease) }
        if case .inline(let bytes) = opened.grant { return Array(bytes) }
        let file = try #require(reply.descriptors.first)
        var bytes = [UInt8](repeating: 0, count: Int(opened.attributes.size))
        let count = try bytes.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
        return Array(bytes.prefix(count))
    }

    /// The errno that a request fails with; nil when it does not.
    func errno(_ body: (TestClient) async throws -> Void) async -> Errno? {
        do {
            try await body(self)
            return nil
        } catch { return (error as? CoordinationError)?.errno ?? .protocolError }
    }
}
