import Glibc
import Platform
import UnderStores

/// What a `FaultyServer` does with one request.
package indirect enum Fault: Sendable {
    /// Pass it on and answer what comes back.
    case none
    /// Answer this; without a Content-Length among the headers, that of the body is sent.
    case answer(Int, headers: [(String, String)] = [], body: [UInt8] = [])
    /// Change the answer of the real server, or of another fault, before it is sent.
    case change(of: Fault = .none, @Sendable (inout HTTPResponse) -> Void)
    /// Send so many bytes of the body, then close properly, whatever the Content-Length says.
    case truncate(of: Fault = .none, after: Int)
    /// Send so many bytes of the body, then reset the connection.
    case reset(of: Fault = .none, after: Int)
    /// Send so many bytes of the body, then nothing, until the client goes.
    case stall(of: Fault = .none, after: Int)
    /// Say nothing at all until the client goes.
    case silence
    /// Reset the connection instead of an answer.
    case refuse

    package static func busy(retryAfter: Int? = nil) -> Fault {
        let document = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        return .answer(503, headers: retryAfter.map { [("Retry-After", "\($0)")] } ?? [], body: Array(document.utf8))
    }

    package static func error(_ status: Int, _ code: String, headers: [(String, String)] = [], extra: String = "")
        -> Fault
    {
        .answer(
            status, headers: headers,
            body: Array("<Error><Code>\(code)</Code><Message>no</Message>\(extra)</Error>".utf8))
    }
}

/// An HTTP/1.1 server on 127.0.0.1 that answers by a plan, or passes requests on to a real server and spoils the
/// answers.
package final class FaultyServer: Sendable {
    /// One request as it came.
    package struct Request: Sendable {
        package let method: String
        /// Path and query, as sent.
        package let target: String
        package let headers: HTTPHeaders
        package let body: [UInt8]
        /// How many requests came before it.
        package let index: Int

        package var isListing: Bool { method == "GET" && target.contains("list-type=2") }
    }

    private struct State {
        var requests: [Request] = []
        var open: [ObjectIdentifier: TCPSocket] = [:]
        var connections = 0
        var mostOpen = 0
    }

    private let listener: TCPSocket
    private let upstream: UInt16?
    private let plan: @Sendable (Request) -> Fault
    private let state = Lock(State())

    /// - Parameters:
    ///   - upstream: the endpoint of the real server (`http://127.0.0.1:port`); nil when the plan answers everything.
    ///   - plan: called on the connection's thread for each request.
    package init(before upstream: String? = nil, plan: @escaping @Sendable (Request) -> Fault) throws {
        listener = try TCPSocket.listen()
        self.upstream = upstream.flatMap { UInt16($0.split(separator: ":").last ?? "") }
        self.plan = plan
        startThread(named: "faulty-accept") { [weak self, listener] in
            while let connection = listener.accept() {
                guard let serve = self?.admit(connection) else { break }
                startThread(named: "faulty-serve", serve)
            }
        }
    }

    deinit {
        listener.shutDown()
        for connection in state.withLock({ Array($0.open.values) }) { connection.shutDown() }
    }

    package var endpoint: String { "http://127.0.0.1:\(listener.port)" }
    package var port: UInt16 { listener.port }
    /// Everything that was asked, in order.
    package var requests: [Request] { state.withLock { $0.requests } }
    package func count(_ method: String) -> Int { requests.filter { $0.method == method }.count }
    /// Connections accepted so far, and the most that were open at one time.
    package var connections: (total: Int, atOnce: Int) { state.withLock { ($0.connections, $0.mostOpen) } }

    private func admit(_ connection: TCPSocket) -> @Sendable () -> Void {
        state.withLock {
            $0.open[ObjectIdentifier(connection)] = connection
            $0.connections += 1
            $0.mostOpen = max($0.mostOpen, $0.open.count)
        }
        return { [weak self, plan, upstream] in
            var reader = HTTPMessageReader(connection)
            while let message = reader.next() {
                guard let request = self?.record(message) else { break }
                let keepsOpen = Self.perform(plan(request), request, on: connection, upstream: upstream, body: nil)
                guard keepsOpen else { break }
            }
            // Without a shutdown the last reference's close decides, which may be a reset.
            if !connection.closesByReset { connection.shutDown() }
            _ = self?.state.withLock { $0.open.removeValue(forKey: ObjectIdentifier(connection)) }
        }
    }

    private func record(_ message: HTTPMessageReader.Message) -> Request? {
        let parts = message.startLine.split(separator: " ")
        guard parts.count == 3 else { return nil }
        return state.withLock {
            let request = Request(
                method: String(parts[0]), target: String(parts[1]), headers: message.headers, body: message.body,
                index: $0.requests.count)
            $0.requests.append(request)
            return request
        }
    }

    /// How much of the body to send, and what then.
    private struct Ending {
        var limit: Int
        enum Kind { case close, reset, stall }
        var kind: Kind
    }

    /// Answers one request; false when the connection is over.
    private static func perform(
        _ fault: Fault, _ request: Request, on connection: TCPSocket, upstream: UInt16?, body ending: Ending?
    ) -> Bool {
        switch fault {
        case .truncate(let inner, let after):
            return perform(inner, request, on: connection, upstream: upstream, body: Ending(limit: after, kind: .close))
        case .reset(let inner, let after):
            return perform(inner, request, on: connection, upstream: upstream, body: Ending(limit: after, kind: .reset))
        case .stall(let inner, let after):
            return perform(inner, request, on: connection, upstream: upstream, body: Ending(limit: after, kind: .stall))
        case .silence:
            while !connection.receive().isEmpty {}
            return false
        case .refuse:
            connection.resetOnClose()
            return false
        case .none, .answer, .change:
            guard let response = response(fault, to: request, upstream: upstream) else { return false }
            return send(response, to: request, on: connection, ending: ending)
        }
    }

    private static func response(_ fault: Fault, to request: Request, upstream: UInt16?) -> HTTPResponse? {
        switch fault {
        case .answer(let status, let headers, let body):
            return HTTPResponse(status: status, headers: HTTPHeaders(headers.map { ($0.0, $0.1) }), body: body)
        case .change(let inner, let change):
            guard var response = response(inner, to: request, upstream: upstream) else { return nil }
            change(&response)
            return response
        default:
            return upstream.flatMap { pass(request, to: $0) }
        }
    }

    private static func pass(_ request: Request, to port: UInt16) -> HTTPResponse? {
        guard let server = try? TCPSocket.connect(port: port) else { return nil }
        var text = "\(request.method) \(request.target) HTTP/1.1\r\n"
        for field in request.headers.fields { text += "\(field.name): \(field.value)\r\n" }
        server.send(Array((text + "Connection: close\r\n\r\n").utf8) + request.body)
        var reader = HTTPMessageReader(server, answersTo: request.method)
        guard let message = reader.next() else { return nil }
        let status = message.startLine.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return HTTPResponse(status: status, headers: message.headers, body: message.body)
    }

    private static func send(
        _ response: HTTPResponse, to request: Request, on connection: TCPSocket, ending: Ending?
    ) -> Bool {
        var text = "HTTP/1.1 \(response.status) Scripted\r\n"
        for field in response.headers.fields
        where !["connection", "transfer-encoding"].contains(field.name.lowercased()) {
            text += "\(field.name): \(field.value)\r\n"
        }
        if response.headers["content-length"] == nil { text += "Content-Length: \(response.body.count)\r\n" }
        let body = request.method == "HEAD" ? [] : response.body
        guard let ending else { return connection.send(Array((text + "\r\n").utf8) + body) }
        connection.send(Array((text + "\r\n").utf8) + body.prefix(ending.limit))
        switch ending.kind {
        case .close: break
        case .reset: connection.resetOnClose()
        case .stall: while !connection.receive().isEmpty {}
        }
        return false
    }
}
