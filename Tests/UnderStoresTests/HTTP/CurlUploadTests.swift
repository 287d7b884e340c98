import Platform
import TestSupport
import Testing

@testable import UnderStores

/// A memory file of `bytes`, beginning at byte 3 of it.
func uploadBody(_ bytes: [UInt8], checksum: UInt32? = nil) throws -> UploadBody {
    let file = try Descriptor.memory(named: "larder-test")
    try bytes.withUnsafeBytes { try file.write($0, at: 3) }
    return UploadBody(file: file, range: 3..<(3 + UInt64(bytes.count)), checksum: checksum)
}

@Suite struct CurlUploading {
    private func put(_ endpoint: String, _ body: UploadBody, timeouts: HTTPTimeouts = HTTPTimeouts()) -> HTTPRequest {
        var request = HTTPRequest(.put, "\(endpoint)/x", headers: [("X-A", "1")], timeouts: timeouts)
        request.upload = body
        return request
    }

    private static let short = HTTPTimeouts(
        connect: .seconds(60), firstByte: .milliseconds(300), stall: .milliseconds(300))

    @Test(arguments: [1, 16 << 10, 3 << 20 | 5])
    func aRangeOfAFileIsSentByteForByte(_ size: Int) async throws {
        let server = try FaultyServer { _ in .answer(200, body: Array("ok".utf8)) }
        var random = SeededGenerator(seed: UInt64(size))
        let bytes = random.bytes(size)
        let transport = try CurlTransport(logger: TestTransport.quietLogger)
        for _ in 0..<2 {
            let answer = try await transport.send(put(server.endpoint, uploadBody(bytes)), bodyLimit: 100)
            #expect(answer.status == 200 && answer.body == Array("ok".utf8))
            let seen = try #require(server.requests.last)
            #expect(seen.method == "PUT" && seen.body == bytes && seen.headers["x-a"] == "1")
            #expect(seen.headers["content-length"] == "\(size)" && seen.headers["transfer-encoding"] == nil)
            #expect(seen.headers["expect"] == nil)
        }
        #expect(server.connections.total == 1, "the connection is kept")
    }

    @Test func aFileThatWasShortenedIsTheSendersFault() async throws {
        let server = try FaultyServer { _ in .answer(200) }
        let body = try uploadBody([UInt8](repeating: 1, count: 100_000))
        try body.file.resize(to: 50_000)
        let transport = try CurlTransport(logger: TestTransport.quietLogger)
        let error = await #expect(throws: HTTPError.self) {
            try await transport.send(put(server.endpoint, body), bodyLimit: 100)
        }
        #expect(error?.kind == .source && error?.isTransient == false)
    }

    @Test func anAnswerThatComesWhileSendingIsTheAnswer() async throws {
        let listener = try TCPSocket.listen()
        defer { listener.shutDown() }
        let document = "<Error><Code>AccessDenied</Code></Error>"
        startThread(named: "test-server") {
            guard let connection = listener.accept() else { return }
            _ = connection.receive()
            connection.send(Array("HTTP/1.1 403 No\r\nContent-Length: \(document.count)\r\n\r\n\(document)".utf8))
            // It reads no more, but stays until the client goes.
            while !connection.receive().isEmpty {}
        }
        let transport = try CurlTransport(logger: TestTransport.quietLogger)
        let body = try uploadBody([UInt8](repeating: 7, count: 64 << 20))
        let answer = try await transport.send(
            put("http://127.0.0.1:\(listener.port)", body), bodyLimit: 1000)
        #expect(answer.status == 403 && answer.body == Array(document.utf8))
    }

    @Test func aServerThatTakesNothingIsGivenUp() async throws {
        let listener = try TCPSocket.listen()
        defer { listener.shutDown() }
        let held = Lock<TCPSocket?>(nil)
        startThread(named: "test-server") {
            let connection = listener.accept()
            held.withLock { $0 = connection }
        }
        let transport = try CurlTransport(logger: TestTransport.quietLogger)
        let body = try uploadBody([UInt8](repeating: 7, count: 64 << 20))
        let error = await #expect(throws: HTTPError.self) {
            try await transport.send(
                put("http://127.0.0.1:\(listener.port)", body, timeouts: Self.short), bodyLimit: 1000)
        }
        #expect(error?.kind == .timeout(.stall))
        held.withLock { $0 = nil }
    }

    @Test func aServerThatTookAllAndSaysNothingIsGivenUp() async throws {
        let server = try FaultyServer { _ in .silence }
        let transport = try CurlTransport(logger: TestTransport.quietLogger)
        let error = await #expect(throws: HTTPError.self) {
            try await transport.send(
                put(server.endpoint, uploadBody([1, 2, 3]), timeouts: Self.short), bodyLimit: 1000)
        }
        #expect(error?.kind == .timeout(.firstByte))
    }

    @Test func anUploadOnAConnectionThatDiedMeanwhileIsSentAgainFromItsStart() async throws {
        let listener = try TCPSocket.listen()
        defer { listener.shutDown() }
        let bodies = Lock<[[UInt8]]>([])
        startThread(named: "test-server") {
            while let connection = listener.accept() {
                var text: [UInt8] = []
                while true {
                    let end = text.indices.first { text[$0...].starts(with: "\r\n\r\n".utf8) }
                    if let end, text.count >= end + 4 + 100_000 {
                        bodies.withLock { $0.append(Array(text[(end + 4)...])) }
                        break
                    }
                    let more = connection.receive()
                    if more.isEmpty { break }
                    text += more
                }
                // Closes the connection, though the answer lets it be kept.
                connection.send(Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8))
                connection.shutDown()
            }
        }
        let transport = try CurlTransport(logger: TestTransport.quietLogger)
        for seed in 1...5 {
            var random = SeededGenerator(seed: UInt64(seed))
            let bytes = random.bytes(100_000)
            let answer = try await transport.send(
                put("http://127.0.0.1:\(listener.port)", uploadBody(bytes)), bodyLimit: 10)
            #expect(answer.status == 200)
            #expect(bodies.withLock { $0.last } == bytes)
        }
    }
}
