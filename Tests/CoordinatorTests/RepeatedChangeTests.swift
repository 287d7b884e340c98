import Coordination
import Glibc
import Logging
import Platform
import SystemPackage
import Testing
import UnderStores

@testable import Coordinator

/// Changes that a mount sends again, and changes of several mounts in one directory.
@Suite struct RepeatedChangeTests {
    private static let client = ByteString((1...16).map { UInt8($0) })

    /// - Parameter body: the last argument gives the coordinator that a client comes back to: the same, or a successor on
    ///   what a kill at that moment leaves.
    private func withSuccession(
        _ isKilled: Bool,
        _ body: (CoordinatorFixture, MemoryStore, () throws -> CoordinatorFixture) async throws -> Void
    ) async throws {
        try await withFixture { fixture, store in
            var successor: CoordinatorFixture?
            do {
                try await body(fixture, store) {
                    guard isKilled else { return fixture }
                    let next = try CoordinatorFixture(stores: ["s3://bucket": store], from: fixture.directory)
                    successor = next
                    return next
                }
            } catch {
                await successor?.finish()
                throw error
            }
            await successor?.finish()
        }
    }

    private func withFixture(_ body: (CoordinatorFixture, MemoryStore) async throws -> Void) async throws {
        let store = MemoryStore()
        let fixture = try CoordinatorFixture(stores: ["s3://bucket": store])
        do { try await body(fixture, store) } catch {
            await fixture.finish()
            throw error
        }
        await fixture.finish()
    }

    private func creation(of name: ByteString, in root: UInt64) -> WireEnvelope.OneOf_Body {
        var request = WireCreate()
        request.parent = root
        request.name = name.data
        request.mode = 0o644
        request.flags = UInt32(O_RDWR | O_CREAT | O_EXCL)
        return .create(request)
    }

    private func created(
        _ client: TestClient, _ body: WireEnvelope.OneOf_Body, operation: UInt64
    ) async throws -> (inode: UInt64, lease: UInt64, file: Descriptor) {
        let reply = try await client.send(body, operation: operation)
        guard case .created(let created) = reply.body, let file = reply.descriptors.first else {
            throw Errno.protocolError
        }
        return (created.entry.attributes.inode, created.opened.lease, file)
    }

    /// With O_EXCL, so that doing it twice would be EEXIST.
    @Test(arguments: [false, true])
    func aCreationThatIsSentAgainIsDoneOnce(afterAKill: Bool) async throws {
        try await withSuccession(afterAKill) { fixture, store, succeed in
            let first = try fixture.client()
            let root = try await first.attach([("/", "s3://bucket")], client: Self.client).root
            let body = creation(of: "new", in: root)
            let made = try await created(first, body, operation: 7)
            _ = try "x".withCString { try made.file.write(UnsafeRawBufferPointer(start: $0, count: 1), at: 0) }
            let second = try succeed().client()
            // Who was killed hears nothing of its end, and commits nothing.
            if !afterAKill { first.client.close() }
            let again = try await second.attach([("/", "s3://bucket")], client: Self.client).root
            #expect(again == root)
            let repeated = try await created(second, body, operation: 7)
            #expect(repeated.inode == made.inode)
            #expect(try repeated.file.status().size == 1, "it is the file that was made, with what was written to it")
            try await second.commit(repeated.lease)
            #expect(store.bytes(of: "new") == Array("x".utf8))
            let other = await second.errno { _ = try await created($0, body, operation: 8) }
            #expect(other == .fileExists, "another operation is another creation")
        }
    }

    @Test(arguments: [false, true])
    func aRemovalThatIsSentAgainIsAnsweredAsTheFirstTime(afterAKill: Bool) async throws {
        try await withSuccession(afterAKill) { fixture, store, succeed in
            store.put("a", Array("1".utf8))
            let first = try fixture.client()
            let root = try await first.attach([("/", "s3://bucket")], client: Self.client).root
            _ = try await first.lookup(root, "a")
            var request = WireRemove()
            request.parent = root
            request.name = ByteString("a").data
            _ = try await first.send(.remove(request), operation: 3)
            #expect(store.keys.isEmpty)
            store.put("a", Array("somebody else's".utf8))
            let second = try succeed().client()
            first.client.close()
            _ = try await second.attach([("/", "s3://bucket")], client: Self.client)
            _ = try await second.send(.remove(request), operation: 3)
            #expect(store.bytes(of: "a") == Array("somebody else's".utf8))
        }
    }

    @Test func theAnswersOfAClientThatDoesNotComeBackAreForgotten() async throws {
        var template = Array("/tmp/larder-operations-XXXXXX".utf8CString)
        let path = try #require(mkdtemp(&template).map { String(cString: $0) })
        defer { for name in ["/journal.lmdb", "/journal.lmdb-lock", "/journal.opening", ""] { remove(path + name) } }
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let journal = try Journal(directory: path, bootIdentifier: "boot", logger: logger)
        try journal.note([1], of: 5, by: Self.client)
        let other = ByteString([UInt8](repeating: 9, count: 16))
        try journal.note([2], of: 1, by: other)
        let pool = WorkerPool(name: "test", threads: 1)
        // Known from the predecessor's journal; one of them is there again.
        let log = OperationLog(journal: journal, pool: pool, logger: logger, patience: 0)
        log.begin(other)
        await pool.run {}
        #expect(try journal.operationClients() == [other])
        try journal.note([3], of: 2, by: other)
        let patient = OperationLog(journal: journal, pool: pool, logger: logger)
        patient.begin(other)
        patient.end(other)
        await pool.run {}
        #expect(try journal.operationClients() == [other], "it may come back")
        let impatient = OperationLog(journal: journal, pool: pool, logger: logger, patience: 0)
        impatient.end(other)
        await pool.run {}
        #expect(try journal.operationClients() == [])
        journal.close()
    }

    // MARK: Several mounts

    private typealias Acknowledge = @Sendable () -> Void
    private static let sender = WorkerPool(name: "test-acknowledger", threads: 1)

    @Test func aChangeIsAnsweredAfterTheOtherMountHasForgotten() async throws {
        try await withFixture { fixture, _ in
            let events = Lock<[String]>([])
            let changing = try fixture.client()
            let root = try await changing.attach([("/", "s3://bucket")]).root
            let other = try TestClient(socket: fixture.socket, role: .mount) { acknowledge in
                Self.sender.submit {
                    events.withLock { $0.append("forgotten") }
                    acknowledge()
                }
            }
            _ = try await other.attach([("/", "s3://bucket")], at: "/other", acknowledging: true)
            #expect(try await other.lookup(root, "d") == nil, "its kernel remembers that there is none")
            _ = try await changing.makeDirectory(root, "d", mode: 0o755)
            events.withLock { $0.append("answered") }
            let order = events.withLock { $0 }
            #expect(order.last == "answered" && order.count >= 2, "\(order)")
        }
    }

    /// Its kernel cannot forget before: it holds the directory's lock for its own change.
    @Test func twoMountsThatChangeOneDirectoryDoNotWaitForEachOther() async throws {
        try await withFixture { fixture, store in
            let held = Lock<[Int: [Acknowledge]]>([:])
            var clients: [TestClient] = []
            var root: UInt64 = 0
            for index in 0..<2 {
                let client = try TestClient(socket: fixture.socket, role: .mount) { acknowledge in
                    held.withLock { $0[index, default: []].append(acknowledge) }
                }
                root = try await client.attach([("/", "s3://bucket")], at: "/\(index)", acknowledging: true).root
                clients.append(client)
            }
            let directory = root
            for round in 0..<3 {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for (index, client) in clients.enumerated() {
                        group.addTask {
                            _ = try await client.makeDirectory(directory, ByteString("\(index)-\(round)"), mode: 0o755)
                            // Answered: now its kernel lets go of the lock, and forgets what it was told.
                            let mine = held.withLock { $0.removeValue(forKey: index) ?? [] }
                            for acknowledge in mine { Self.sender.submit(acknowledge) }
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(store.keys.count == 6)
        }
    }

    @Test func whoWaitsForABusyDirectoryIsWokenByItsNextChangeAndByNoOther() async {
        let busy = BusyDirectories()
        busy.enter([1])
        await busy.wait(for: [1, 9])
        busy.leave([1])
        let isWoken = Lock(false)
        let waiting = Task {
            await busy.wait(for: [1, 2])
            isWoken.withLock { $0 = true }
        }
        busy.enter([3])
        busy.leave([3])
        #expect(!isWoken.withLock { $0 })
        busy.enter([2])
        await waiting.value
        busy.leave([2])
        let cancelled = Task { await busy.wait(for: [1]) }
        cancelled.cancel()
        await cancelled.value
    }
}

/// What a kill between two of the coordinator's files leaves.
@Suite struct HalfNotedCommitTests {
    /// The journal knows the version that a commit has made, and the namespace does not.
    @Test func aCommitThatTheNamespaceHasNotHeardOfIsNoConflictForTheNextWriter() async throws {
        let store = MemoryStore()
        store.put("a", Array("old".utf8))
        let fixture = try CoordinatorFixture(stores: ["s3://bucket": store])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://bucket")]).root
        let inode = try #require(try await client.lookup(root, "a")).inode
        let opened = try await client.openToWrite(inode)
        try opened.write("new", at: 0)
        try await client.commit(opened.lease)
        // As a kill would leave it: the file is open and committed.
        let successor = try CoordinatorFixture(stores: ["s3://bucket": store], from: fixture.directory) { state in
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            let index = try MetadataIndex(directory: state, bootIdentifier: "boot-1", logger: logger)
            var record = try #require(index.record(inode))
            record.attributes.version = ObjectVersion("the version before")
            record.attributes.size = 999
            index.update { $0.setRecord(inode, record) }
        }
        client.release(opened.lease)
        await fixture.finish()
        do { try await expectTheCommittedVersion(successor, store) } catch {
            Issue.record("\(error)")
        }
        await successor.finish()
    }

    private func expectTheCommittedVersion(_ successor: CoordinatorFixture, _ store: MemoryStore) async throws {
        let client = try successor.client()
        let root = try await client.attach([("/", "s3://bucket")]).root
        let inode = try #require(try await client.lookup(root, "a")).inode
        let first = try await client.openToWrite(inode)
        client.release(first.lease)
        // Once the file that was left has ended, the object is opened again, by its version.
        var next = try await client.openToWrite(try #require(try await client.lookup(root, "a")).inode)
        while next.number == first.number {
            client.release(next.lease)
            next = try await client.openToWrite(try #require(try await client.lookup(root, "a")).inode)
        }
        #expect(try next.file.status().size == 3)
        try next.write("er", at: 1)
        try await client.commit(next.lease)
        #expect(store.bytes(of: "a") == Array("ner".utf8))
        client.release(next.lease)
    }
}
