import Coordination
import Glibc
import Platform
import SystemPackage
import Testing
import UnderStores

@testable import Coordinator

/// What a store said before Larder changed it, and what is told only afterwards.
@Suite struct StaleAnswerTests {
    private struct Lake {
        let fixture: CoordinatorFixture
        let store: MemoryStore
        let faults: FaultStore
        let client: TestClient
        let root: UInt64

        /// Returns when the staged file of an inode has ended.
        func finished(_ inode: UInt64) async {
            while fixture.daemon.services.namespace.index.record(inode)?.staged != 0 { await Task.yield() }
        }

        func put(_ name: ByteString, _ text: String) async throws -> TestClient.OpenedToWrite {
            let made = try await client.create(root, name)
            try made.write(text, at: 0)
            try await client.commit(made.lease)
            return made
        }
    }

    private func withLake(_ fill: (MemoryStore) -> Void = { _ in }, _ body: (Lake) async throws -> Void) async throws {
        let store = MemoryStore()
        fill(store)
        let faults = FaultStore(store)
        let fixture = try CoordinatorFixture(stores: ["s3://bucket": faults])
        do {
            let client = try fixture.client()
            let root = try await client.attach([("/", "s3://bucket")]).root
            try await body(Lake(fixture: fixture, store: store, faults: faults, client: client, root: root))
        } catch {
            faults.heal()
            await fixture.finish()
            throw error
        }
        await fixture.finish()
    }

    @Test func aPageThatWasListedBeforeACommitDoesNotBringTheOldVersionBack() async throws {
        try await withLake({ $0.put("a", Array("old".utf8)) }) { lake in
            let inode = try #require(try await lake.client.lookup(lake.root, "a")).inode
            let gate = FaultGate()
            lake.faults.add(.init(.page, .pause(after: 0, gate)))
            let lister = try lake.fixture.client(.control)
            let root = lake.root
            async let names = lister.names(root)
            await gate.waitForArrivals(1)
            let first = try await lake.client.openToWrite(inode)
            try first.write("new", at: 0)
            try await lake.client.commit(first.lease)
            lake.client.release(first.lease)
            await lake.finished(inode)
            gate.open()
            #expect(try await names == ["a"])
            let found = try #require(try await lake.client.lookup(lake.root, "a"))
            #expect(found.inode == inode, "what is written through Larder keeps its number")
            let second = try await lake.client.openToWrite(found.inode)
            try second.write("ne2", at: 0)
            try await lake.client.commit(second.lease)
            #expect(lake.store.bytes(of: "a") == Array("ne2".utf8))
            lake.client.release(second.lease)
        }
    }

    @Test func aListingThatEndsAfterACommitDoesNotHideTheNewFile() async throws {
        try await withLake { lake in
            let made = try await lake.client.create(lake.root, "part.tmp")
            try made.write("data", at: 0)
            let gate = FaultGate()
            lake.faults.add(.init(.page, .pause(after: 0, gate)))
            let lister = try lake.fixture.client(.control)
            let root = lake.root
            async let names = lister.names(root)
            await gate.waitForArrivals(1)
            try await lake.client.commit(made.lease)
            lake.client.release(made.lease)
            await lake.finished(made.inode)
            gate.open()
            #expect(try await names == ["part.tmp"])
            try await lake.client.rename(lake.root, "part.tmp", lake.root, "part")
            #expect(lake.store.bytes(of: "part") == Array("data".utf8) && lake.store.keys == ["part"])
        }
    }

    @Test func anOlderListingDoesNotUndoWhatALaterOneHasSaid() async throws {
        try await withLake({ $0.put("a", Array("old".utf8)) }) { lake in
            let gate = FaultGate()
            lake.faults.add(.init(.page, calls: 1...1, .pause(after: 0, gate)))
            let lister = try lake.fixture.client(.control)
            let root = lake.root
            async let names = lister.names(root)
            await gate.waitForArrivals(1)
            lake.store.put("a", Array("newer".utf8))
            let other = try lake.fixture.client(.control)
            #expect(try await other.names(lake.root) == ["a"])
            gate.open()
            _ = try await names
            #expect(try await lake.client.lookup(lake.root, "a")?.size == 5)
        }
    }

    /// rsync sets the times of its temporary file, closes and renames it: the commit that brings the times may be the last
    /// thing that happens to the staged file.
    @Test(arguments: [false, true])
    func aFileWhoseLastCommitEndsDuringItsRenameIsRenamed(replacing: Bool) async throws {
        try await withLake({ if replacing { $0.put("name", Array("former".utf8)) } }) { lake in
            if replacing { _ = try await lake.client.lookup(lake.root, "name") }
            let made = try await lake.put(".name.Xa", "content")
            let gate = FaultGate()
            lake.faults.add(.init(.copy, calls: 1...1, .hold(gate)))
            var change = WireSetAttributes()
            change.inode = made.inode
            change.mode = 0o600
            _ = try await lake.client.send(.setAttributes(change))
            lake.client.release(made.lease)
            await gate.waitForArrivals(1)
            let staging = lake.fixture.daemon.services.changes.staging
            let file = try #require(staging.file(made.number))
            let (client, root) = (lake.client, lake.root)
            async let renamed: Void = client.rename(root, ".name.Xa", root, "name")
            while file.state.withLock({ $0.holds }) == 0 { await Task.yield() }
            gate.open()
            try await renamed
            #expect(lake.store.keys == ["name"] && lake.store.bytes(of: "name") == Array("content".utf8))
            let found = try await lake.client.lookup(lake.root, "name")
            #expect(found?.inode == made.inode && found?.mode == S_IFREG | 0o600)
            #expect(try lake.fixture.daemon.services.changes.journal.unfinishedRenames().isEmpty)
        }
    }

    @Test func aNameIsNeverAbsentWhileAnUncommittedFileReplacesAnother() async throws {
        try await withLake { lake in
            let former = try await lake.client.create(lake.root, "current")
            let next = try await lake.client.create(lake.root, "next")
            let isDone = Lock(false)
            let watcher = try lake.fixture.client()
            _ = try await watcher.attach([("/", "s3://bucket")], at: "/other")
            let watching = Task { [root = lake.root] in
                var missing = 0
                while !isDone.withLock({ $0 }) {
                    if try await watcher.lookup(root, "current") == nil { missing += 1 }
                }
                return missing
            }
            try await lake.client.rename(lake.root, "next", lake.root, "current")
            isDone.withLock { $0 = true }
            #expect(try await watching.value == 0)
            #expect(try await lake.client.lookup(lake.root, "current")?.inode == next.inode)
            for opened in [former, next] { lake.client.release(opened.lease) }
        }
    }

    /// The store has the copy under the new name, and nothing under the old one any more, before the index hears of it.
    @Test func whatIsListedDuringARenameDoesNotTakeTheInodeItsName() async throws {
        try await withLake({ $0.put("a", Array("bytes".utf8)) }) { lake in
            let inode = try #require(try await lake.client.lookup(lake.root, "a")).inode
            let gate = FaultGate()
            let lister = try lake.fixture.client(.control)
            // The removal of the old name has been done, and its answer is on the way.
            lake.faults.add(
                .init(
                    .remove,
                    .perform { [store = lake.store] in _ = store.remove("a") }))
            lake.faults.add(.init(.remove, .hold(gate)))
            let (client, root) = (lake.client, lake.root)
            async let renamed: Void = client.rename(root, "a", root, "b")
            await gate.waitForArrivals(1)
            _ = try await lister.names(lake.root)
            gate.open()
            try await renamed
            #expect(try await lake.client.lookup(lake.root, "b")?.inode == inode)
            #expect(try await lake.client.lookup(lake.root, "a") == nil)
        }
    }
}
