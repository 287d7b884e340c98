import Coordination
import Coordinator
import Platform
import SystemPackage
import Testing
import UnderStores

/// Who has to say that it has forgotten before a synchronization is answered.
@Suite struct SynchronizingTests {
    private typealias Acknowledge = @Sendable () -> Void

    private func withStore(
        names: Int = 1, patience: Duration = .seconds(60),
        _ body: (CoordinatorFixture) async throws -> Void
    ) async throws {
        let store = MemoryStore()
        for index in 0..<names { store.put(ByteString("d/file-\(index)"), "1".utf8) }
        let fixture = try CoordinatorFixture(stores: ["s3://m": store], mountPatience: patience)
        do { try await body(fixture) } catch {
            await fixture.finish()
            throw error
        }
        await fixture.finish()
    }

    private func synchronize(_ control: TestClient, _ inode: UInt64) async throws {
        var request = WireSynchronize()
        request.inode = inode
        guard case .done = try await control.send(.synchronize(request)).body else { throw Errno.protocolError }
    }

    /// Sends acknowledgements from where they may be sent from.
    private static let sender = WorkerPool(name: "test-sender", threads: 1)
    private static let acknowledging: @Sendable (@escaping Acknowledge) -> Void = { sender.submit($0) }

    @Test func aSynchronizationIsAnsweredAfterTheLastMountHasForgotten() async throws {
        try await withStore { fixture in
            let prompt = try TestClient(socket: fixture.socket, role: .mount, onInvalidate: Self.acknowledging)
            let root = try await prompt.attach([("/", "s3://m")], acknowledging: true).root
            let (heard, hears) = AsyncStream<Acknowledge>.makeStream()
            let slow = try TestClient(socket: fixture.socket, role: .mount) { hears.yield($0) }
            _ = try await slow.attach([("/", "s3://m")], acknowledging: true)
            let isAnswered = Lock(false)
            let control = try fixture.client(.control)
            let answer = Task {
                try await synchronize(control, root)
                isAnswered.withLock { $0 = true }
            }
            // A notice without an id first, then the one that wants an answer.
            var requests = heard.makeAsyncIterator()
            _ = await requests.next()
            let acknowledge = try #require(await requests.next())
            // Another request of the same session goes there and back meanwhile.
            _ = try await control.send(.getStatus(.init()))
            #expect(!isAnswered.withLock { $0 })
            Self.sender.submit(acknowledge)
            try await answer.value
        }
    }

    @Test func aMountThatLeavesIsNotWaitedFor() async throws {
        try await withStore { fixture in
            let (heard, hears) = AsyncStream<Void>.makeStream()
            let leaving = try TestClient(socket: fixture.socket, role: .mount) { _ in hears.yield() }
            let root = try await leaving.attach([("/", "s3://m")], acknowledging: true).root
            let control = try fixture.client(.control)
            let answer = Task { try await synchronize(control, root) }
            var notices = heard.makeAsyncIterator()
            for _ in 0..<2 { _ = await notices.next() }
            leaving.client.close()
            try await answer.value
        }
    }

    @Test func aMountOfAnOlderReleaseIsNotWaitedFor() async throws {
        try await withStore { fixture in
            let old = try fixture.client()
            let root = try await old.attach([("/", "s3://m")]).root
            try await synchronize(try fixture.client(.control), root)
        }
    }

    @Test func aMountThatDoesNotAnswerIsNamedAndTheRestIsDone() async throws {
        try await withStore(patience: .milliseconds(100)) { fixture in
            let stopped = try fixture.client()
            let root = try await stopped.attach([("/", "s3://m")], at: "/mnt/stopped", acknowledging: true).root
            let prompt = try TestClient(socket: fixture.socket, role: .mount, onInvalidate: Self.acknowledging)
            _ = try await prompt.attach([("/", "s3://m")], at: "/mnt/prompt", acknowledging: true)
            let directory = try #require(try await prompt.lookup(root, "d")).inode
            do {
                try await synchronize(try fixture.client(.control), directory)
                Issue.record("answered, although a mount has not")
            } catch let error as CoordinationError {
                #expect(error.errno == .timedOut)
                #expect(error.message.contains("/mnt/stopped") && !error.message.contains("/mnt/prompt"))
            }
            // The coordinator has forgotten all the same: this asks the store.
            #expect(try await prompt.lookup(root, "d")?.inode == directory)
        }
    }

    @Test func aMountThatDoesNotReadItsSocketHoldsUpNobody() async throws {
        try await withStore(names: 20_000, patience: .milliseconds(500)) { fixture in
            let prompt = try TestClient(socket: fixture.socket, role: .mount, onInvalidate: Self.acknowledging)
            let root = try await prompt.attach([("/", "s3://m")], acknowledging: true).root
            let directory = try #require(try await prompt.lookup(root, "d")).inode
            #expect(try await prompt.names(directory).count == 20_000)
            // Its thread stays in the first notice, and the socket's buffer fills up.
            let gate = OneShot<Bool>()
            let stuck = try TestClient(socket: fixture.socket, role: .mount) { _ in _ = Self.blockingWait(gate) }
            _ = try await stuck.attach([("/", "s3://m")], at: "/mnt/stuck", acknowledging: true)
            defer { gate.set(true) }
            let control = try fixture.client(.control)
            for _ in 0..<2 {
                await expectFailure(.timedOut) { try await synchronize(control, directory) }
                #expect(try await prompt.lookup(directory, "file-7")?.size == 1)
            }
            let told = prompt.notifications.withLock { bodies in
                bodies.reduce(into: Set<ByteString>()) { names, body in
                    guard case .invalidate(let message) = body else { return }
                    for name in message.names where name.parent == directory { names.insert(ByteString(name.name)) }
                }
            }
            #expect(told.count == 20_000)
        }
    }

    private static func blockingWait(_ gate: OneShot<Bool>) -> Bool? { gate.wait() }
}
