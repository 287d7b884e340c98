import Coordination
import Platform
import SystemPackage
import Testing
import UnderStores

@Suite struct NamespaceTests {
    private func withMemory(
        _ objects: [ByteString: String], ttl: UInt32 = 3_600_000,
        _ body: (MemoryStore, CoordinatorFixture, TestClient, UInt64) async throws -> Void
    ) async throws {
        let store = MemoryStore()
        for (key, text) in objects { store.put(key, text.utf8) }
        let fixture = try CoordinatorFixture(stores: ["s3://memory": store])
        do {
            let client = try fixture.client()
            let root = try await client.attach([("/", "s3://memory")], ttl: ttl).root
            try await body(store, fixture, client, root)
        } catch {
            await fixture.finish()
            throw error
        }
        await fixture.finish()
    }

    @Test func lookupsFindFilesDirectoriesAndNothing() async throws {
        try await withMemory(["a/b/c.txt": "hello", "top": "1"]) { _, _, client, root in
            let file = try #require(try await client.resolve(root, "a/b/c.txt"))
            #expect(file.size == 5)
            #expect(file.mode == 0o100644)
            #expect(try await client.resolve(root, "a/b")?.mode == 0o040755)
            #expect(try await client.resolve(root, "nothing") == nil)
            #expect(try await client.resolve(root, "a/b/nothing") == nil)
        }
    }

    @Test func afterAListingNoLookupAsksTheStore() async throws {
        try await withMemory(["d/x": "1", "d/y": "2", "d/e/z": "3"]) { store, _, client, root in
            let directory = try #require(try await client.resolve(root, "d")).inode
            #expect(Set(try await client.names(directory)) == ["x", "y", "e"])
            store.calls.reset()
            #expect(try await client.lookup(directory, "x")?.size == 1)
            #expect(try await client.lookup(directory, "absent") == nil)
            #expect(Set(try await client.names(directory)) == ["x", "y", "e"])
            #expect(store.calls.all.isEmpty)
        }
    }

    @Test func anAbsentNameIsRememberedAndCanceledBySynchronize() async throws {
        try await withMemory(["d/x": "1"]) { store, fixture, client, root in
            let directory = try #require(try await client.resolve(root, "d")).inode
            #expect(try await client.lookup(directory, "late") == nil)
            store.put("d/late", "now".utf8)
            #expect(try await client.lookup(directory, "late") == nil, "within its TTL the name stays absent")
            let control = try fixture.client(.control)
            var synchronize = WireSynchronize()
            synchronize.inode = directory
            _ = try await control.send(.synchronize(synchronize))
            #expect(try await client.lookup(directory, "late")?.size == 3)
        }
    }

    @Test func aReplacedObjectGetsANewInodeAndTheOldOneIsStale() async throws {
        try await withMemory(["d/x": "one"], ttl: 0) { store, _, client, root in
            let directory = try #require(try await client.resolve(root, "d")).inode
            let old = try #require(try await client.lookup(directory, "x"))
            #expect(try await client.lookup(directory, "x")?.inode == old.inode, "unchanged: the same inode")
            store.put("d/x", "second".utf8)
            let new = try #require(try await client.lookup(directory, "x"))
            #expect(new.inode != old.inode)
            #expect(new.size == 6)
            await expectFailure(.staleNFSFileHandle) { _ = try await client.open(old.inode) }
            #expect(try await client.contents(new.inode) == Array("second".utf8))
        }
    }

    @Test func aListingForgetsWhatTheStoreNoLongerHas() async throws {
        try await withMemory(["d/x": "1", "d/y": "2"], ttl: 0) { store, _, client, root in
            let directory = try #require(try await client.resolve(root, "d")).inode
            #expect(Set(try await client.names(directory)) == ["x", "y"])
            store.remove("d/x")
            #expect(try await client.names(directory) == ["y"])
            #expect(try await client.lookup(directory, "x") == nil)
        }
    }

    @Test func changesSeenByOneMountAreToldToTheOthers() async throws {
        try await withMemory(["d/x": "one"], ttl: 0) { store, fixture, client, root in
            let other = try fixture.client()
            _ = try await other.attach([("/", "s3://memory")], ttl: 0)
            let directory = try #require(try await client.resolve(root, "d")).inode
            _ = try await client.lookup(directory, "x")
            store.put("d/x", "two!".utf8)
            _ = try await client.lookup(directory, "x")
            // A round trip on the other session orders nothing; the notification itself is waited for.
            for _ in 0..<2000 {
                let told = other.notifications.withLock { bodies in
                    bodies.contains { body in
                        guard case .invalidate(let message) = body else { return false }
                        return message.names.contains { $0.parent == directory && ByteString($0.name) == "x" }
                    }
                }
                if told { return }
                try await Task.sleep(for: .milliseconds(5))
            }
            Issue.record("the other mount was never told")
        }
    }

    @Test func nestedMountPointsShadowAndLead() async throws {
        let lake = MemoryStore(named: "lake")
        lake.put("a/file", "in lake".utf8)
        lake.put("nested/hidden", "shadowed".utf8)
        let inner = MemoryStore(named: "inner")
        inner.put("inner-file", "inner".utf8)
        let fixture = try CoordinatorFixture(stores: ["s3://lake": lake, "s3://inner": inner])
        let client = try fixture.client()
        let root = try await client.attach([
            ("/lake", "s3://lake"), ("/lake/nested", "s3://inner"), ("/lake/a/deep/er", "s3://inner"),
        ]).root
        #expect(try await client.names(root) == ["lake"])
        let top = try #require(try await client.resolve(root, "lake")).inode
        #expect(Set(try await client.names(top)) == ["a", "nested"])
        #expect(try await client.resolve(root, "lake/nested/hidden") == nil)
        #expect(try await client.resolve(root, "lake/nested/inner-file")?.size == 5)
        #expect(try await client.resolve(root, "lake/a/file")?.size == 7)
        #expect(try await client.resolve(root, "lake/a/deep/er/inner-file")?.size == 5)
        let a = try #require(try await client.resolve(root, "lake/a")).inode
        #expect(Set(try await client.names(a)) == ["file", "deep"])
        let deep = try #require(try await client.resolve(root, "lake/a/deep")).inode
        #expect(try await client.names(deep) == ["er"])
        await fixture.finish()
    }

    @Test func tenThousandNamesComeOnceEach() async throws {
        let names = (0..<10_000).map { "file-\($0)" }
        let objects = Dictionary(uniqueKeysWithValues: names.map { (ByteString("big/" + $0), "x") })
        try await withMemory(objects) { _, _, client, root in
            let directory = try #require(try await client.resolve(root, "big")).inode
            for _ in 0..<2 {
                let listed = try await client.names(directory)
                #expect(listed.count == names.count)
                #expect(Set(listed.map(\.description)) == Set(names))
            }
        }
    }

    @Test func namesThatPOSIXForbidsAreAbsentOrTooLong() async throws {
        try await withMemory(["x": "1"]) { _, _, client, root in
            for name in ["..", "", "a/b"] as [ByteString] {
                let found = try await client.lookup(root, name)
                #expect(found == nil)
            }
            let long = ByteString(String(repeating: "n", count: 256))
            await expectFailure(.fileNameTooLong) { _ = try await client.lookup(root, long) }
        }
    }
}
