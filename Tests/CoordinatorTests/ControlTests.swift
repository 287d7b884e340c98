import Coordination
import Platform
import SystemPackage
import Testing
import UnderStores

@Suite struct ControlTests {
    private func loaded(_ control: TestClient, _ inode: UInt64) async throws -> WireProgress {
        var load = WireLoad()
        load.inode = inode
        return try await withCheckedThrowingContinuation { continuation in
            control.client.request(
                .load(load), until: { if case .progress(let progress) = $0 { progress.end } else { true } },
                onReply: { result in
                    switch result {
                    case .success(let reply):
                        if case .progress(let progress) = reply.body, progress.end {
                            continuation.resume(returning: progress)
                        }
                    case .failure(let error): continuation.resume(throwing: error)
                    }
                })
        }
    }

    @Test func loadFillsTheCacheMeasureSumsItUpAndFreeEmptiesIt() async throws {
        let store = MemoryStore()
        for file in 0..<20 { store.put(ByteString("d/sub\(file % 3)/f\(file)"), [UInt8](repeating: 7, count: 300_000)) }
        let fixture = try CoordinatorFixture(stores: ["s3://m": store])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://m")]).root
        let directory = try #require(try await client.lookup(root, "d"))
        let control = try fixture.client(.control)
        let progress = try await loaded(control, directory.inode)
        #expect(progress.filesDone == 20)
        #expect(progress.bytesDone == 6_000_000)
        #expect(progress.bytesTotal == 6_000_000)
        #expect(progress.failures == 0)
        var measure = WireMeasure()
        measure.inode = directory.inode
        guard case .usage(let full) = try await control.send(.measure(measure)).body else { throw Errno.protocolError }
        #expect(full.files == 20)
        #expect(full.directories == 4)
        #expect(full.bytes == 6_000_000)
        #expect(full.cachedBytes == 6_000_000)
        store.calls.reset()
        let file = try #require(try await client.resolve(root, "d/sub1/f1"))
        #expect(try await client.contents(file.inode).count == 300_000)
        #expect(store.calls.all.isEmpty)
        var free = WireFree()
        free.inode = directory.inode
        // The release of what was read is not answered, so that a file may be lent for a moment yet.
        var (freedBytes, leftBytes) = (0 as UInt64, UInt64.max)
        for _ in 0..<1000 where leftBytes > 0 {
            guard case .usage(let freed) = try await control.send(.free(free)).body,
                case .usage(let left) = try await control.send(.measure(measure)).body
            else { throw Errno.protocolError }
            freedBytes += freed.cachedBytes
            leftBytes = left.cachedBytes
        }
        #expect(freedBytes == 6_000_000 && leftBytes == 0)
        await fixture.finish()
    }

    @Test func aLoadReportsWhatItCouldNotFetch() async throws {
        let memory = MemoryStore()
        for file in 0..<5 { memory.put(ByteString("d/f\(file)"), [UInt8](repeating: 1, count: 1000)) }
        let store = FaultStore(
            memory,
            rules: [
                FaultStore.Rule(.read, on: "d/f3", calls: 1...1000, .fail(StoreError(.unavailable, "no answer")))
            ])
        let fixture = try CoordinatorFixture(stores: ["s3://m": store])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://m")]).root
        let control = try fixture.client(.control)
        let progress = try await loaded(control, root)
        #expect(progress.filesDone == 5)
        #expect(progress.failures == 1)
        #expect(progress.lastError.contains("no answer"))
        await fixture.finish()
    }

    @Test func attributesTellVersionURLAndCachedBytes() async throws {
        let store = MemoryStore()
        store.put("d/f", [UInt8](repeating: 1, count: 2_000_000))
        let fixture = try CoordinatorFixture(stores: ["s3://bucket/p": store])
        let client = try fixture.client()
        let root = try await client.attach([("/lake", "s3://bucket/p")]).root
        let file = try #require(try await client.resolve(root, "lake/d/f"))
        func attribute(_ name: String) async throws -> String {
            var request = WireGetExtendedAttribute()
            request.inode = file.inode
            request.name = ByteString(name).data
            guard case .extendedAttribute(let value) = try await client.send(.getExtendedAttribute(request)).body else {
                throw Errno.protocolError
            }
            return ByteString(value.value).description
        }
        #expect(try await attribute("user.larder.url") == "s3://bucket/p/d/f")
        #expect(try await attribute("user.larder.cached") == "0")
        #expect(try await attribute("user.larder.inode") == "\(file.inode)")
        _ = try await client.contents(file.inode)
        #expect(try await attribute("user.larder.cached") == "2000000")
        #expect(try await attribute("user.larder.tier") == "disk")
        await expectFailure(.noData) { _ = try await attribute("user.other") }
        await fixture.finish()
    }

    @Test func aFailingStoreIsAnErrorWithItsReasonAndRecovers() async throws {
        let memory = MemoryStore()
        memory.put("f", [UInt8](repeating: 1, count: 100_000))
        let store = FaultStore(memory)
        let fixture = try CoordinatorFixture(stores: ["s3://m": store])
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://m")], ttl: 0).root
        store.add(FaultStore.Rule(.lookup, calls: 1...1000, .fail(StoreError(.unavailable, "store is down"))))
        await expectFailure(.ioError) { _ = try await client.lookup(root, "f") }
        store.heal()
        let file = try #require(try await client.lookup(root, "f"))
        store.add(FaultStore.Rule(.read, calls: 1...1000, .fail(StoreError(.accessDenied, "no"))))
        let (opened, _) = try await client.open(file.inode)
        var fetch = WireFetch()
        fetch.lease = opened.lease
        fetch.length = 1000
        await expectFailure(.permissionDenied) { _ = try await client.send(.fetch(fetch)) }
        store.heal()
        #expect(try await client.contents(file.inode).count == 100_000)
        let control = try fixture.client(.control)
        guard case .status(let status) = try await control.send(.getStatus(.init())).body else {
            throw Errno.protocolError
        }
        #expect(status.stores.map(\.lastError) == ["no"], "status tells the last failure of each store")
        await fixture.finish()
    }

    @Test func shutdownIsRefusedWhileMountedAndDoneWhenForced() async throws {
        let fixture = try CoordinatorFixture(stores: ["s3://m": MemoryStore()])
        let client = try fixture.client()
        _ = try await client.attach([("/", "s3://m")])
        let control = try fixture.client(.control)
        var shutdown = WireShutdown()
        await expectFailure(.resourceBusy) { _ = try await control.send(.shutdown(shutdown)) }
        shutdown.force = true
        _ = try await control.send(.shutdown(shutdown))
        await fixture.finish()
    }

    @Test func aSecondCoordinatorIsRefusedTheStateDirectory() async throws {
        let fixture = try CoordinatorFixture(stores: [:])
        #expect(throws: (any Error).self) { try fixture.startAnother() }
        await fixture.finish()
    }
}
