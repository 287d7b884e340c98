import Platform
import TestSupport
import Testing

@testable import UnderStores

/// The error that `body` throws, which must be an `HTTPError`.
private func httpError(_ body: () async throws -> HTTPResponse) async throws -> HTTPError {
    do {
        let response = try await body()
        throw TestSetupError("there was an answer: \(response.status)")
    } catch let error as HTTPError { return error }
}

@Suite struct CurlTransporting {
    private func transport(_ adjust: (inout CurlTransport.Options) -> Void = { _ in }) throws -> CurlTransport {
        var options = CurlTransport.Options()
        adjust(&options)
        return try CurlTransport(options: options, logger: TestTransport.quietLogger)
    }

    private static let short = HTTPTimeouts(
        connect: .seconds(5), firstByte: .milliseconds(300), stall: .milliseconds(300))

    @Test func anAnswerComesWithStatusHeadersAndBody() async throws {
        let server = try FaultyServer { _ in
            .answer(404, headers: [("X-Thing", " spaced "), ("x-empty", "")], body: Array("no".utf8))
        }
        let answer = try await transport().send(HTTPRequest(.get, "\(server.endpoint)/a?b=c"), bodyLimit: 100)
        #expect(answer.status == 404 && answer.body == Array("no".utf8))
        #expect(
            answer.headers["x-thing"] == "spaced" && answer.headers["X-EMPTY"] == "" && answer.headers["x-none"] == nil)
        #expect(server.requests.first?.target == "/a?b=c")
    }

    @Test func everyMethodSendsWhatItSays() async throws {
        let server = try FaultyServer { _ in .answer(200, headers: [("Content-Length", "0")]) }
        let transport = try transport()
        for method in HTTPRequest.Method.allCases {
            let body: [UInt8]? = [.put, .post].contains(method) ? Array("body".utf8) : nil
            let request = HTTPRequest(
                method, "\(server.endpoint)/x", headers: [("X-Empty", ""), ("X-A", "1")], body: body)
            _ = try await transport.send(request, bodyLimit: 0)
            let seen = try #require(server.requests.last)
            #expect(seen.method == method.rawValue && seen.body == body ?? [])
            #expect(seen.headers["x-a"] == "1" && seen.headers["x-empty"] == "")
            #expect(seen.headers["expect"] == nil && seen.headers["content-type"] == nil)
        }
        _ = try await transport.send(HTTPRequest(.put, "\(server.endpoint)/x", body: []), bodyLimit: 0)
        #expect(server.requests.last?.headers["content-length"] == "0")
    }

    @Test func thePathIsSentAsItIs() async throws {
        let server = try FaultyServer { _ in .answer(200) }
        _ = try await transport().send(HTTPRequest(.get, "\(server.endpoint)/a/../b/./c//d%2F%20+"), bodyLimit: 10)
        #expect(server.requests.first?.target == "/a/../b/./c//d%2F%20+")
    }

    @Test func redirectsAreAnswers() async throws {
        let server = try FaultyServer { _ in .answer(301, headers: [("Location", "http://127.0.0.1:1/")]) }
        #expect(try await transport().send(HTTPRequest(.get, server.endpoint), bodyLimit: 10).status == 301)
        #expect(server.requests.count == 1)
    }

    @Test func connectionsAreKeptAndBounded() async throws {
        let server = try FaultyServer { _ in .answer(200, body: [1]) }
        let transport = try transport {
            $0.connectionsPerHost = 3
            $0.threads = 2
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<60 {
                group.addTask {
                    let answer = try await transport.send(
                        HTTPRequest(.get, "\(server.endpoint)/\(index)"), bodyLimit: 1)
                    #expect(answer.body == [1])
                }
            }
            try await group.waitForAll()
        }
        #expect(server.requests.count == 60)
        #expect(server.connections.total <= 3 && server.connections.atOnce <= 3)
    }

    @Test func bodiesOfEveryLengthArriveWhole() async throws {
        var random = SeededGenerator(seed: 3)
        let data = random.bytes(3_000_000)
        let server = try FaultyServer { .answer(200, body: Array(data.prefix(Int($0.target.dropFirst()) ?? 0))) }
        let transport = try transport()
        for length in [0, 1, 16_383, 16_384, 16_385, 524_288, 3_000_000] {
            let collected = Lock<[UInt8]>([])
            let answer = try await transport.stream(
                HTTPRequest(.get, "\(server.endpoint)/\(length)"), onHeaders: { _ in .stream },
                onBody: { bytes in collected.withLock { $0 += bytes } })
            #expect(answer.body.isEmpty && collected.withLock { $0 == Array(data.prefix(length)) }, "\(length)")
        }
    }

    @Test func aLongerBodyThanTheLimitIsAnError() async throws {
        let server = try FaultyServer { _ in .answer(200, body: [UInt8](repeating: 0, count: 1001)) }
        #expect(
            try await httpError { try await transport().send(HTTPRequest(.get, server.endpoint), bodyLimit: 1000) }.kind
                == .tooLarge)
    }

    @Test func callbacksMayRefuse() async throws {
        struct No: Error {}
        let server = try FaultyServer { _ in .answer(200, body: [1, 2, 3]) }
        let transport = try transport()
        let atHeaders = try await httpError {
            try await transport.stream(
                HTTPRequest(.get, server.endpoint), onHeaders: { _ in throw No() }, onBody: { _ in })
        }
        let atBody = try await httpError {
            try await transport.stream(
                HTTPRequest(.get, server.endpoint), onHeaders: { _ in .stream }, onBody: { _ in throw No() })
        }
        #expect(atHeaders.kind == .refused && atBody.kind == .refused)
    }

    @Test(arguments: [
        (Fault.truncate(of: .answer(200, body: [1, 2, 3]), after: 2), HTTPError.Kind.truncated),
        (.reset(of: .answer(200, body: [1, 2, 3]), after: 2), .reset), (.refuse, .reset),
        (.silence, .timeout(.firstByte)), (.stall(of: .answer(200, body: [1, 2, 3]), after: 2), .timeout(.stall)),
        (.stall(of: .answer(200, body: [1, 2, 3]), after: 0), .timeout(.stall)),
    ])
    func faultsAreTold(_ fault: Fault, _ kind: HTTPError.Kind) async throws {
        let server = try FaultyServer { _ in fault }
        let timeouts = [.truncated, .reset].contains(kind) ? HTTPTimeouts() : Self.short
        let error = try await httpError {
            try await transport().send(HTTPRequest(.get, server.endpoint, timeouts: timeouts), bodyLimit: 100)
        }
        #expect(error.kind == kind && error.message.contains("127.0.0.1"))
    }

    @Test func aKeptConnectionThatFallsSilentTimesOut() async throws {
        let server = try FaultyServer { $0.index == 0 ? .answer(200) : .silence }
        let transport = try transport { $0.threads = 1 }
        _ = try await transport.send(HTTPRequest(.get, server.endpoint), bodyLimit: 0)
        let request = HTTPRequest(.get, server.endpoint, timeouts: Self.short)
        #expect(try await httpError { try await transport.send(request, bodyLimit: 0) }.kind == .timeout(.firstByte))
        #expect(server.connections.total == 1)
    }

    @Test func aTotalTimeoutEndsABodyThatKeepsComing() async throws {
        let server = try FaultyServer { _ in .stall(of: .answer(200, body: [1, 2]), after: 1) }
        let timeouts = HTTPTimeouts(total: .milliseconds(300))
        let error = try await httpError {
            try await transport().send(HTTPRequest(.get, server.endpoint, timeouts: timeouts), bodyLimit: 100)
        }
        #expect(error.kind == .timeout(.total))
    }

    @Test func aConnectThatIsNotAnsweredTimesOut() async throws {
        // A listener whose queue is full answers no further SYN.
        let listener = try TCPSocket.listen(backlog: 0)
        var held: [TCPSocket] = []
        for _ in 0..<4 {
            if let socket = try? TCPSocket.connect(port: listener.port, waits: false) { held.append(socket) }
        }
        let timeouts = HTTPTimeouts(connect: .milliseconds(300))
        let request = HTTPRequest(.get, "http://127.0.0.1:\(listener.port)/", timeouts: timeouts)
        let error = try await httpError { try await transport().send(request, bodyLimit: 1) }
        #expect(error.kind == .timeout(.connect))
        withExtendedLifetime(held) {}
    }

    @Test func nobodyListens() async throws {
        let error = try await httpError {
            try await transport().send(HTTPRequest(.get, "http://127.0.0.1:\(freePort())/"), bodyLimit: 1)
        }
        #expect(error.kind == .connect)
    }

    @Test func anUnknownHostIsNamed() async throws {
        let error = try await httpError {
            try await transport().send(HTTPRequest(.get, "http://no-such-host.invalid/"), bodyLimit: 1)
        }
        #expect(error.kind == .resolve && error.message.contains("no-such-host.invalid"))
    }

    /// Answers whatever comes with `text`, then hangs up.
    private func blurting(_ text: String) throws -> TCPSocket {
        let listener = try TCPSocket.listen()
        startThread(named: "blurting") {
            while let connection = listener.accept() {
                _ = connection.receive()
                connection.send(Array(text.utf8))
                connection.shutDown()
            }
        }
        return listener
    }

    @Test func httpsToAPlainServerIsATLSError() async throws {
        let listener = try blurting("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        defer { listener.shutDown() }
        let request = HTTPRequest(.get, "https://127.0.0.1:\(listener.port)/")
        #expect(try await httpError { try await transport().send(request, bodyLimit: 1) }.kind == .tls)
    }

    @Test(arguments: ["", "ftp://127.0.0.1/", "http://", "file:///etc/passwd"])
    func otherURLsAreNotSent(_ url: String) async throws {
        let error = try await httpError { try await transport().send(HTTPRequest(.get, url), bodyLimit: 1) }
        #expect(error.kind == .badRequest || error.kind == .malformed)
    }

    @Test func whatIsNoHTTPIsMalformed() async throws {
        let listener = try blurting("SSH-2.0-OpenSSH_9.2\r\n")
        defer { listener.shutDown() }
        let error = try await httpError {
            try await transport().send(HTTPRequest(.get, "http://127.0.0.1:\(listener.port)/"), bodyLimit: 1)
        }
        #expect(error.kind == .malformed)
    }

    @Test func proxiesAreAskedUnlessTheRequestBypassesThem() async throws {
        let proxy = try FaultyServer { _ in .answer(200, body: [1]) }
        let server = try FaultyServer { _ in .answer(200, body: [2]) }
        let transport = try transport { $0.proxy = proxy.endpoint }
        #expect(try await transport.send(HTTPRequest(.get, "http://store.example/x"), bodyLimit: 1).body == [1])
        #expect(proxy.requests.first?.target == "http://store.example/x")
        let direct = HTTPRequest(.get, server.endpoint, bypassesProxy: true)
        #expect(try await transport.send(direct, bodyLimit: 1).body == [2])
    }

    @Test func aMissingCAFileIsToldAtOnce() throws {
        #expect { try transport { $0.caFile = "/no/such/file" } } throws: { ($0 as? HTTPError)?.kind == .badRequest }
    }

    @Test func cancellingEndsRequestsThatRunAndThatWait() async throws {
        let server = try FaultyServer { _ in .silence }
        let transport = try transport {
            $0.connectionsPerHost = 1
            $0.threads = 1
        }
        // A busy machine must not make it a timeout.
        let patience = HTTPTimeouts(connect: .seconds(600), firstByte: .seconds(600), stall: .seconds(600))
        let request = HTTPRequest(.get, server.endpoint, timeouts: patience)
        let tasks = (0..<3).map { _ in
            Task { try await httpError { try await transport.send(request, bodyLimit: 1) }.kind }
        }
        while server.requests.isEmpty { await Task.yield() }
        for task in tasks.reversed() { task.cancel() }
        for task in tasks { #expect(try await task.value == .cancelled) }
        let early = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await httpError { try await transport.send(HTTPRequest(.get, server.endpoint), bodyLimit: 1) }
                .kind
        }
        #expect(try await early.value == .cancelled)
    }
}
