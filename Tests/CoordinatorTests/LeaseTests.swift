import Coordination
import Platform
import SystemPackage
import Testing
import UnderStores

@Suite struct LeaseTests {
    private func pattern(_ count: Int, seed: UInt8) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ ($0 >> 8)) &+ seed }
    }

    @Test(arguments: [0, 1, 32 << 10, (32 << 10) + 1, 1 << 20, (1 << 20) + 1, 5_000_000])
    func everySizeReadsBackByteForByte(size: Int) async throws {
        let store = MemoryStore()
        let bytes = pattern(size, seed: 3)
        store.put("f", bytes)
        let fixture = try CoordinatorFixture(stores: ["s3://m": store])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://m")]).root
        let file = try #require(try await client.lookup(root, "f"))
        for _ in 0..<2 { #expect(try await client.contents(file.inode) == bytes) }
        await fixture.finish()
    }

    @Test func aSecondSessionReadsWithoutAskingTheStore() async throws {
        let store = MemoryStore()
        let bytes = pattern(3_000_000, seed: 9)
        store.put("dir/f", bytes)
        let fixture = try CoordinatorFixture(stores: ["s3://m": store])
        let first = try fixture.client()
        let root = try await first.attach([("/", "s3://m")]).root
        let file = try #require(try await first.resolve(root, "dir/f"))
        #expect(try await first.contents(file.inode) == bytes)
        store.calls.reset()
        let second = try fixture.client()
        let secondRoot = try await second.attach([("/", "s3://m")]).root
        #expect(secondRoot == root)
        let again = try #require(try await second.resolve(secondRoot, "dir/f"))
        #expect(try await second.contents(again.inode) == bytes)
        #expect(store.calls.all.isEmpty, "attaching to a known volume and reading cached bytes ask nothing")
        await fixture.finish()
    }

    @Test func anObjectReplacedWhileOpenIsStaleAndNeverMixed() async throws {
        let store = MemoryStore()
        store.put("f", pattern(4_000_000, seed: 1))
        let fixture = try CoordinatorFixture(stores: ["s3://m": store])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://m")]).root
        let file = try #require(try await client.lookup(root, "f"))
        let (opened, _) = try await client.open(file.inode)
        var fetch = WireFetch()
        fetch.lease = opened.lease
        fetch.length = 131_072
        _ = try await client.send(.fetch(fetch))
        store.put("f", pattern(4_000_000, seed: 2))
        fetch.offset = 2 << 20
        await expectFailure(.staleNFSFileHandle) { _ = try await client.send(.fetch(fetch)) }
        let fresh = try #require(try await client.lookup(root, "f"))
        #expect(fresh.inode != file.inode)
        #expect(try await client.contents(fresh.inode) == pattern(4_000_000, seed: 2))
        await fixture.finish()
    }

    @Test func readsGoPastTheCacheWhereItIsSwitchedOff() async throws {
        let store = MemoryStore()
        let bytes = pattern(9_000_000, seed: 5)
        store.put("f", bytes)
        let fixture = try CoordinatorFixture(stores: ["s3://m": store])
        let client = try fixture.client()
        var attach = WireAttach()
        var mount = WireMountSpecification()
        mount.path = "/"
        mount.source = "s3://m"
        mount.cache = "never"
        attach.volume.mounts = [mount]
        guard case .attached(let attached) = try await client.send(.attach(attach)).body else {
            Issue.record("not attached")
            return
        }
        let file = try #require(try await client.lookup(attached.root, "f"))
        #expect(try await client.contents(file.inode) == bytes)
        let control = try fixture.client(.control)
        guard case .status(let status) = try await control.send(.getStatus(.init())).body else {
            Issue.record("no status")
            return
        }
        #expect(status.tiers.allSatisfy { $0.usedBytes == 0 })
        await fixture.finish()
    }

    @Test func leasesEndWithTheirSession() async throws {
        let store = MemoryStore()
        store.put("f", pattern(2_000_000, seed: 7))
        let fixture = try CoordinatorFixture(stores: ["s3://m": store])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://m")]).root
        let file = try #require(try await client.lookup(root, "f"))
        _ = try await client.open(file.inode)
        let control = try fixture.client(.control)
        #expect(try await openFiles(control) == 1)
        client.client.close()
        for _ in 0..<2000 {
            if try await openFiles(control) == 0 { break }
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(try await openFiles(control) == 0)
        await fixture.finish()
    }

    private func openFiles(_ control: TestClient) async throws -> Int {
        guard case .status(let status) = try await control.send(.getStatus(.init())).body else { return -1 }
        return status.mounts.flatMap(\.openFiles).count
    }

    @Test func aSessionCannotUseALeaseThatIsNotItsOwn() async throws {
        let store = MemoryStore()
        store.put("f", pattern(2_000_000, seed: 7))
        let fixture = try CoordinatorFixture(stores: ["s3://m": store])
        let owner = try fixture.client()
        let root = try await owner.attach([("/", "s3://m")]).root
        let file = try #require(try await owner.lookup(root, "f"))
        let lease = try await owner.open(file.inode).opened.lease
        let thief = try fixture.client()
        var fetch = WireFetch()
        fetch.lease = lease
        fetch.length = 1
        await expectFailure(.badFileDescriptor) { _ = try await thief.send(.fetch(fetch)) }
        var open = WireOpen()
        open.inode = file.inode
        await expectFailure(.staleNFSFileHandle) { _ = try await thief.send(.open(open)) }
        await expectFailure(.permissionDenied) { _ = try await thief.send(.getStatus(.init())) }
        await fixture.finish()
    }
}
