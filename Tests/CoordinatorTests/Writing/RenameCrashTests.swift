import Coordination
import Glibc
import Platform
import SystemPackage
import Testing

@testable import Coordinator
@testable import UnderStores

/// What a kill in the middle of a rename leaves to the successor.
@Suite struct RenameCrashTests {
    private static let client = ByteString((1...16).map { UInt8($0) })

    private func request(_ root: UInt64, _ name: ByteString, _ newName: ByteString) -> WireEnvelope.OneOf_Body {
        var request = WireRename()
        request.parent = root
        request.name = name.data
        request.newParent = root
        request.newName = newName.data
        return .rename(request)
    }

    private func succeed(
        _ fixture: CoordinatorFixture, _ store: any UnderStore, _ body: (TestClient, UInt64) async throws -> Void
    ) async throws {
        let successor = try CoordinatorFixture(stores: ["s3://bucket": store], from: fixture.directory)
        do {
            let client = try successor.client()
            try await body(client, try await client.attach([("/", "s3://bucket")], client: Self.client).root)
        } catch {
            await successor.finish()
            throw error
        }
        await successor.finish()
    }

    /// Writes another file and gives it the name; its commit must not be taken for a lost race.
    private func replace(
        _ name: ByteString, _ client: TestClient, _ root: UInt64, with text: String
    ) async throws {
        let next = try await client.create(root, "next")
        try next.write(text, at: 0)
        try await client.rename(root, "next", root, name)
        try await client.commit(next.lease)
        client.release(next.lease)
    }

    /// The seed 2053866132 of the crash test: the uploads of two files that both stood for one path met each other.
    @Test func aRenameThatOnlyTheJournalKnowsIsTheSuccessorsTruth() async throws {
        let store = MemoryStore()
        store.put("current", Array("1".utf8))
        let fixture = try CoordinatorFixture(stores: ["s3://bucket": store])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://bucket")], client: Self.client).root
        let former = try #require(try await store.lookup("current")?.version)
        _ = try await client.lookup(root, "current")
        let made = try await client.create(root, "temporary")
        try made.write("22", at: 0)
        let staging = fixture.daemon.services.changes.staging
        let file = try #require(staging.file(made.number))
        try await staging.holding([file]) { () async throws(CoordinationError) in
            var move = StagingService.Move(base: .version(former))
            move.answers = (Self.client, 5)
            try await staging.move(file, to: "current", move)
        }
        do {
            try await succeed(fixture, store) { client, root in
                _ = try await client.send(request(root, "temporary", "current"), operation: 5)
                let current = try await client.lookup(root, "current")
                #expect(current?.inode == made.inode && current?.size == 2)
                #expect(try await client.lookup(root, "temporary") == nil)
                try await replace("current", client, root, with: "333")
                #expect(store.keys == ["current"] && store.bytes(of: "current") == Array("333".utf8))
            }
        } catch { Issue.record("\(error)") }
        await fixture.finish()
    }

    @Test(arguments: [false, true])
    func aRenameOfAnObjectOverAnotherIsCompletedByTheSuccessor(isRemoved: Bool) async throws {
        let store = MemoryStore()
        store.put("current", Array("1".utf8))
        store.put("temporary", Array("22".utf8))
        let faults = FaultStore(store)
        let fixture = try CoordinatorFixture(stores: ["s3://bucket": faults])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://bucket")], client: Self.client).root
        for name in ["current", "temporary"] as [ByteString] { _ = try await client.lookup(root, name) }
        let gate = FaultGate()
        if isRemoved { faults.add(.init(.remove, .perform { _ = store.remove("temporary") })) }
        faults.add(.init(.remove, .hold(gate)))
        let body = request(root, "temporary", "current")
        let first = Task { _ = try? await client.send(body, operation: 5) }
        await gate.waitForArrivals(1)
        do {
            try await succeed(fixture, store) { client, root in
                _ = try await client.send(request(root, "temporary", "current"), operation: 5)
                #expect(try await client.lookup(root, "current")?.size == 2)
                #expect(try await client.lookup(root, "temporary") == nil)
                try await replace("current", client, root, with: "333")
                #expect(store.keys == ["current"] && store.bytes(of: "current") == Array("333".utf8))
            }
        } catch { Issue.record("\(error)") }
        faults.heal()
        gate.open()
        await first.value
        await fixture.finish()
    }

    @Test func anotherFileThatHasTheOldNameSinceIsNotRemovedByTheSuccessor() async throws {
        let bench = try StagingBench()
        let version = bench.memory.put("a", Array("moved".utf8))
        bench.memory.put("b", Array("moved".utf8))
        let rename = RenameRecord(
            number: try bench.journal.nextNumber(), store: bench.faults.identity, source: "a", destination: "b",
            isTree: false, sourceVersion: version, phase: .removing, condition: .none)
        try bench.journal.put(rename)
        bench.memory.put("a", Array("new".utf8))
        let (done, failed) = await RenameWork.recover(bench.faults, journal: bench.journal)
        #expect(done.map(\.rename) == [rename] && failed.isEmpty)
        for work in done { work.finish() }
        #expect(bench.object("a") == Array("new".utf8) && bench.object("b") == Array("moved".utf8))
        #expect(try bench.journal.unfinishedRenames().isEmpty)
    }
}
