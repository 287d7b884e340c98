import Coordination
import Glibc
import Logging
import Platform
import SystemPackage
import Testing

/// Answers Lookup with an entry of the name's length, List with two pages, everything else with Failure EDOM; keeps what
/// it was told.
private final class EchoHandler: SessionHandler {
    let session: Session
    let received = Lock<[WireEnvelope.OneOf_Body]>([])
    let pool = WorkerPool(name: "echo", threads: 2)
    let closed: OneShot<Bool>

    init(_ session: Session, closed: OneShot<Bool>) {
        self.session = session
        self.closed = closed
    }

    func receive(_ body: WireEnvelope.OneOf_Body, id: UInt64, operation: UInt64, descriptors: [Descriptor]) {
        received.withLock { $0.append(body) }
        pool.submit { [self] in
            switch body {
            case .lookup(let lookup):
                var entry = WireEntry()
                entry.attributes.size = UInt64(lookup.name.count)
                session.reply(to: id, .entry(entry))
            case .load:
                for step in 1...3 {
                    var progress = WireProgress()
                    progress.filesDone = UInt64(step)
                    progress.end = step == 3
                    session.reply(to: id, .progress(progress))
                }
            case .registerDevice:
                var fetched = WireFetched()
                fetched.length = (try? descriptors.first?.status().size) ?? 0
                session.reply(to: id, .fetched(fetched), descriptors: descriptors)
            default: session.fail(id, .outOfDomain, "unexpected")
            }
        }
    }

    func close() { closed.set(true) }
}

private final class ServerFixture: Sendable {
    let directory: String
    let path: String
    let server: SessionServer
    let closed = OneShot<Bool>()

    init(refusing reason: String? = nil) throws {
        var template = Array("/tmp/larder-session-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        directory = template.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        path = directory + "/s"
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let closed = closed
        server = try SessionServer(
            path: path, software: "larder test", logger: logger, admit: { _, _ in reason },
            makeHandler: { EchoHandler($0, closed: closed) })
    }

    deinit {
        server.close()
        rmdir(directory)
    }

    func client() throws -> CoordinatorClient { try CoordinatorClient(path: path, role: .mount, software: "test") }
}

/// Tests that wait do so on threads of their own, for `call` blocks.
private func onThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        startThread(named: "test") { continuation.resume(with: Swift.Result { try body() }) }
    }
}

@Suite struct SessionTests {
    @Test func manyThreadsShareOneConnectionAndEachGetsItsOwnAnswer() async throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for thread in 0..<8 {
                group.addTask {
                    try await onThread {
                        for count in 0..<200 {
                            var lookup = WireLookup()
                            let length = (thread * 37 + count) % 255
                            lookup.name = ByteString([UInt8](repeating: 65, count: length)).data
                            guard case .entry(let entry) = try client.call(.lookup(lookup)).body else {
                                throw Errno.protocolError
                            }
                            #expect(entry.attributes.size == UInt64(length))
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        client.close()
    }

    @Test func aRequestMayBeAnsweredByALineOfMessages() async throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        let steps: [UInt64] = try await onThread {
            let steps = Lock<[UInt64]>([])
            let done = OneShot<Bool>()
            client.request(
                .load(.init()), until: { if case .progress(let progress) = $0 { progress.end } else { true } },
                onReply: { result in
                    guard case .success(let reply) = result, case .progress(let progress) = reply.body else { return }
                    steps.withLock { $0.append(progress.filesDone) }
                    if progress.end { done.set(true) }
                })
            _ = done.wait(timeout: .seconds(30))
            return steps.withLock { $0 }
        }
        #expect(steps == [1, 2, 3])
    }

    @Test func descriptorsTravelBothWays() async throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        let size: (UInt64, UInt64) = try await onThread {
            let file = try Descriptor.memory(named: "test")
            try file.resize(to: 12_345)
            let reply = try client.call(.registerDevice(.init()), descriptors: [file])
            guard case .fetched(let fetched) = reply.body else { throw Errno.protocolError }
            return (fetched.length, try reply.descriptors.first?.status().size ?? 0)
        }
        #expect(size == (12_345, 12_345))
    }

    @Test func theServerLearnsThatAClientHasGone() async throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        client.close()
        let closed = try await onThread { fixture.closed.wait(timeout: .seconds(30)) }
        #expect(closed == true)
    }

    @Test func pendingRequestsFailWhenTheServerGoes() async throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        fixture.server.close()
        let errno: Errno = try await onThread {
            do {
                for _ in 0..<100 { _ = try client.call(.lookup(.init()), timeout: .seconds(30)) }
                return Errno(rawValue: 0)
            } catch { return (error as? CoordinationError)?.errno ?? Errno(rawValue: 0) }
        }
        #expect([.socketNotConnected, .brokenPipe, .connectionReset].contains(errno))
    }

    @Test func aRefusedClientIsToldWhy() throws {
        let fixture = try ServerFixture(refusing: "not you")
        #expect(throws: CoordinationError(.permissionDenied, "not you")) { try fixture.client() }
    }

    @Test func nobodyListeningNamesThePath() {
        #expect {
            try CoordinatorClient(path: "/nonexistent/larder", role: .mount, software: "test")
        } throws: { error in
            "\(error)".contains("/nonexistent/larder") && (error as? CoordinationError)?.errno == .noSuchFileOrDirectory
        }
    }

    @Test func anotherProtocolVersionIsAnsweredWithBothVersions() throws {
        let fixture = try ServerFixture()
        let channel = MessageChannel(try PacketSocket.connect(to: fixture.path))
        var envelope = WireEnvelope()
        envelope.id = 1
        envelope.hello.protocol = 999
        try channel.send(envelope)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: PacketSocket.maximumMessage, alignment: 16)
        defer { buffer.deallocate() }
        let answer = try #require(try channel.receive(using: buffer)?.envelope)
        #expect(answer.failure.errorNumber == EPROTONOSUPPORT)
        #expect(answer.failure.message.contains("999"))
        #expect(try channel.receive(using: buffer) == nil, "the connection is closed")
    }

    @Test func garbageClosesOnlyItsOwnSession() async throws {
        let fixture = try ServerFixture()
        let good = try fixture.client()
        var generator = SystemRandomNumberGenerator()
        for length in [1, 7, 100, 5000, PacketSocket.maximumMessage] {
            let socket = try PacketSocket.connect(to: fixture.path)
            let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
            try bytes.withUnsafeBytes { try socket.send($0) }
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: PacketSocket.maximumMessage, alignment: 16)
            defer { buffer.deallocate() }
            // Bytes that happen to be an envelope without a body are no handshake either.
            #expect(try socket.receive(into: buffer).count == 0)
        }
        let size = try await onThread { () -> UInt64 in
            var lookup = WireLookup()
            lookup.name = ByteString("still").data
            guard case .entry(let entry) = try good.call(.lookup(lookup)).body else { return 0 }
            return entry.attributes.size
        }
        #expect(size == 5)
    }

    @Test func aMessageBeyondTheLimitIsRefusedAtTheSender() throws {
        let fixture = try ServerFixture()
        let channel = MessageChannel(try PacketSocket.connect(to: fixture.path))
        var envelope = WireEnvelope()
        envelope.id = 1
        envelope.lookup.name = ByteString([UInt8](repeating: 0, count: PacketSocket.maximumMessage)).data
        #expect(throws: Errno.messageTooLong) { try channel.send(envelope) }
    }
}
