import Coordination
import Platform
import SystemPackage
import Testing
import UnderStores

/// A session goes on with a successor of the mount's process.
@Suite struct ResumingTests {
    private static let client = ByteString(Array("0123456789abcdef".utf8))

    private func fixture(grace: Duration = .seconds(60)) throws -> CoordinatorFixture {
        let store = MemoryStore()
        store.put("f", [UInt8](repeating: 7, count: 3_000_000))
        store.put("small", Array("small".utf8))
        return try CoordinatorFixture(stores: ["s3://m": store], sessionGrace: grace)
    }

    private func attach(
        _ fixture: CoordinatorFixture, takesOver: Bool = false, isResumable: Bool = true,
        client: ByteString = Self.client
    ) async throws -> (client: TestClient, attached: WireAttached) {
        let connection = try fixture.client()
        let attached = try await connection.attach(
            [("/", "s3://m")], acknowledging: true, client: client, takesOver: takesOver)
        var register = WireRegisterDevice()
        register.resumable = isResumable
        let file = try Descriptor.memory(named: "device")
        _ = try await connection.send(.registerDevice(register), descriptors: isResumable ? [file, file] : [file])
        return (connection, attached)
    }

    private func open(
        _ client: TestClient, _ inode: UInt64, lease: UInt64, of session: UInt64
    ) async throws -> (opened: WireOpened, descriptors: [Descriptor]) {
        var request = WireOpen()
        request.inode = inode
        request.lease = lease
        request.session = session
        let reply = try await client.send(.open(request))
        guard case .opened(let opened) = reply.body else { throw Errno.protocolError }
        return (opened, reply.descriptors)
    }

    private func lock(_ client: TestClient, _ inode: UInt64, owner: UInt64) async throws {
        var request = WireSetLock()
        request.inode = inode
        request.lock.kind = .exclusive
        request.lock.end = .max
        request.lock.owner = owner
        _ = try await client.send(.setLock(request))
    }

    private func mounts(_ fixture: CoordinatorFixture) async throws -> [WireStatus.Mount] {
        let control = try fixture.client(.control)
        defer { control.client.close() }
        guard case .status(let status) = try await control.send(.getStatus(.init())).body else {
            throw Errno.protocolError
        }
        return status.mounts
    }

    @Test func aSuccessorGetsLeasesAndLocksOfItsPredecessor() async throws {
        let fixture = try fixture()
        let (first, attached) = try await attach(fixture)
        let file = try #require(try await first.lookup(attached.root, "f"))
        let small = try #require(try await first.lookup(attached.root, "small"))
        let (mapped, _) = try await first.open(file.inode)
        let (inline, _) = try await first.open(small.inode)
        try await lock(first, file.inode, owner: 1)
        first.client.close()
        let (second, resumed) = try await attach(fixture, takesOver: true)
        #expect(resumed.session == attached.session)
        let again = try await open(second, file.inode, lease: mapped.lease, of: resumed.session)
        #expect(again.opened.lease == mapped.lease && again.opened.mapped == mapped.mapped)
        #expect(again.descriptors.count == 2)
        let bytes = try await open(second, small.inode, lease: inline.lease, of: resumed.session)
        #expect(bytes.opened.inline == inline.inline && bytes.opened.lease == inline.lease)
        // A lease of another inode is none, nor is one of another session.
        #expect(try await open(second, file.inode, lease: mapped.lease, of: 1).opened.lease != mapped.lease)
        #expect(
            try await open(second, small.inode, lease: mapped.lease, of: resumed.session).opened.lease != mapped.lease)
        let other = try await attach(fixture, client: ByteString(Array("another client!!".utf8))).client
        await expectFailure(.wouldBlock) { try await lock(other, file.inode, owner: 2) }
        // Its own lock is no other's.
        try await lock(second, file.inode, owner: 1)
        await fixture.finish()
    }

    @Test func leasesThatASuccessorDoesNotNeedEnd() async throws {
        let fixture = try fixture()
        let (first, attached) = try await attach(fixture)
        let file = try #require(try await first.lookup(attached.root, "f"))
        let leases = [
            try await first.open(file.inode).opened.lease, try await first.open(file.inode).opened.lease,
            try await first.open(file.inode).opened.lease,
        ]
        first.client.close()
        let (second, resumed) = try await attach(fixture, takesOver: true)
        let fresh = try await second.open(file.inode).opened.lease
        for (lease, isLast) in [(leases[0], false), (leases[2], true)] {
            var keep = WireKeepLeases()
            keep.leases = [lease]
            keep.end = isLast
            second.client.notify(.keepLeases(keep))
        }
        #expect(try await open(second, file.inode, lease: leases[0], of: resumed.session).opened.lease == leases[0])
        #expect(try await open(second, file.inode, lease: leases[1], of: resumed.session).opened.lease != leases[1])
        #expect(try await open(second, file.inode, lease: leases[2], of: resumed.session).opened.lease == leases[2])
        #expect(try await open(second, file.inode, lease: fresh, of: resumed.session).opened.lease == fresh)
        await fixture.finish()
    }

    @Test func aSuccessorIsToldWhatItsPredecessorDidNotConfirm() async throws {
        let fixture = try fixture()
        let (first, attached) = try await attach(fixture)
        let file = try #require(try await first.lookup(attached.root, "f"))
        let control = try fixture.client(.control)
        var synchronize = WireSynchronize()
        synchronize.inode = attached.root
        // The predecessor hears of it, and dies before its kernel has forgotten.
        let settled = Task { [synchronize] in try await control.send(.synchronize(synchronize)) }
        while first.notifications.withLock({ $0.isEmpty }) { try await Task.sleep(for: .milliseconds(5)) }
        first.client.close()
        let successor = try TestClient(socket: fixture.socket, role: .mount) { acknowledge in acknowledge() }
        _ = try await successor.attach(
            [("/", "s3://m")], acknowledging: true, client: Self.client, takesOver: true)
        _ = try await settled.value
        let told = successor.notifications.withLock { $0 }.flatMap { body -> [UInt64] in
            if case .invalidate(let message) = body { message.inodes + message.names.map(\.parent) } else { [] }
        }
        #expect(told.contains(file.inode) || told.contains(attached.root), "\(told)")
        await fixture.finish()
    }

    @Test func whatNobodyTakesOverEnds() async throws {
        let fixture = try fixture(grace: .milliseconds(200))
        let (first, attached) = try await attach(fixture)
        let file = try #require(try await first.lookup(attached.root, "f"))
        try await lock(first, file.inode, owner: 1)
        first.client.close()
        while try await !mounts(fixture).isEmpty { try await Task.sleep(for: .milliseconds(20)) }
        let (second, resumed) = try await attach(fixture, takesOver: true)
        #expect(resumed.session != attached.session)
        let other = try await attach(fixture, client: ByteString(Array("another client!!".utf8))).client
        try await lock(other, file.inode, owner: 2)
        withExtendedLifetime(second) {}
        await fixture.finish()
    }

    @Test(arguments: ["detached", "not resumable"])
    func aMountThatIsNotToGoOnIsNotKept(how: String) async throws {
        let fixture = try fixture()
        let (first, _) = try await attach(fixture, isResumable: how != "not resumable")
        if how == "detached" { first.client.notify(.detach(.init())) }
        first.client.close()
        while try await !mounts(fixture).isEmpty { try await Task.sleep(for: .milliseconds(20)) }
        await fixture.finish()
    }

    @Test func aMountThatWaitsIsGivenToWhoAsksForIt() async throws {
        let fixture = try fixture()
        let (first, _) = try await attach(fixture)
        let control = try fixture.client(.control)
        var request = WireTakeOverMount()
        request.mountPath = "/test"
        await expectFailure(.noSuchFileOrDirectory) { _ = try await control.send(.takeOverMount(request)) }
        first.client.close()
        while try await !mounts(fixture).allSatisfy(\.waiting) { try await Task.sleep(for: .milliseconds(20)) }
        #expect(try await control.send(.takeOverMount(request)).descriptors.count == 2)
        request.mountPath = "/other"
        await expectFailure(.noSuchFileOrDirectory) { _ = try await control.send(.takeOverMount(request)) }
        await fixture.finish()
    }

    @Test func theSameProcessOverAnotherConnectionLeavesNothingOfTheFormer() async throws {
        let fixture = try fixture()
        let (first, attached) = try await attach(fixture)
        let file = try #require(try await first.lookup(attached.root, "f"))
        try await lock(first, file.inode, owner: 1)
        let (second, resumed) = try await attach(fixture)
        #expect(resumed.session != attached.session)
        let other = try await attach(fixture, client: ByteString(Array("another client!!".utf8))).client
        try await lock(other, file.inode, owner: 2)
        withExtendedLifetime(second) {}
        await fixture.finish()
    }
}
