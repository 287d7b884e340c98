import Commands
import Coordination
import Foundation
import Logging
import Platform
import TestSupport

/// A coordinator that answers by a script, and remembers what it was asked.
final class FakeCoordinator: Sendable {
    typealias Script = @Sendable (WireEnvelope.OneOf_Body, FakeSession) -> Void

    let socket: String
    private let directory: TemporaryDirectory
    private let server: SessionServer
    private let requests: Lock<[WireEnvelope.OneOf_Body]>
    /// Set when the first client has gone.
    let firstClosed: OneShot<Void>

    var received: [WireEnvelope.OneOf_Body] { requests.withLock { $0 } }

    init(_ script: @escaping Script) throws {
        let directory = try TemporaryDirectory()
        let requests = Lock([WireEnvelope.OneOf_Body]())
        let closed = OneShot<Void>()
        socket = directory.path + "/c.sock"
        self.directory = directory
        self.requests = requests
        firstClosed = closed
        server = try SessionServer(
            path: socket, software: "fake 1", logger: Logger(label: "fake") { _ in SwiftLogNoOpLogHandler() },
            admit: { _, _ in nil },
            makeHandler: { session in
                Handler(session: session, requests: requests, closed: closed, script: script)
            })
    }

    deinit { server.close() }

    func target(_ path: String = "/mnt/lake", inode: UInt64 = 7) -> NamespaceTarget {
        NamespaceTarget(path: path, socket: socket, inode: inode)
    }

    /// Answers from a thread of its own: the receive thread must not send.
    private final class Handler: SessionHandler {
        let session: Session
        let requests: Lock<[WireEnvelope.OneOf_Body]>
        let closed: OneShot<Void>
        let script: Script
        let thread = WorkerThread(name: "fake")

        init(
            session: Session, requests: Lock<[WireEnvelope.OneOf_Body]>, closed: OneShot<Void>,
            script: @escaping Script
        ) {
            self.session = session
            self.requests = requests
            self.closed = closed
            self.script = script
        }

        func receive(_ body: WireEnvelope.OneOf_Body, id: UInt64, operation: UInt64, descriptors: [Descriptor]) {
            requests.withLock { $0.append(body) }
            thread.submit { [script, session] in script(body, FakeSession(session: session, id: id)) }
        }

        func close() { closed.set(()) }
    }
}

/// One request, to be answered.
struct FakeSession: Sendable {
    let session: Session
    let id: UInt64

    func reply(_ body: WireEnvelope.OneOf_Body) { session.reply(to: id, body) }
    func fail(_ error: Int32, _ message: String) {
        var failure = WireFailure()
        failure.errorNumber = error
        failure.message = message
        reply(.failure(failure))
    }
}

/// Collects what a command prints.
final class Printed: Sendable {
    private let state = Lock((data: "", notes: ""))

    var data: String { state.withLock { $0.data } }
    var notes: String { state.withLock { $0.notes } }

    func output(terminalColumns: Int? = nil) -> Output {
        Output(
            write: { text in self.state.withLock { $0.data += text } },
            note: { text in self.state.withLock { $0.notes += text } }, terminalColumns: terminalColumns)
    }
}

extension WireAttributes {
    static func file(inode: UInt64, size: UInt64) -> WireAttributes {
        var attributes = WireAttributes()
        attributes.inode = inode
        attributes.mode = 0o100644
        attributes.size = size
        attributes.uid = 1000
        attributes.gid = 100
        attributes.modifiedSeconds = 1_795_370_400
        return attributes
    }

    static func directory(inode: UInt64) -> WireAttributes {
        var attributes = file(inode: inode, size: 0)
        attributes.mode = 0o040755
        return attributes
    }
}
