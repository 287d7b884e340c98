import ArgumentParser
import Coordination
import Glibc
import Platform

/// `larder status`: what the coordinator does.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show the coordinator, its cache, stores, mounts and open files.")

    @Option(help: ArgumentHelp("Socket of the coordinator; found by default.", valueName: "socket"))
    var coordinator: String?
    @Argument(help: "A path in a Larder mount, to ask that mount's coordinator.", completion: .file())
    var path: String?
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let session: ControlSession
        if let coordinator {
            session = try ControlSession(socket: FilePaths.absolute(coordinator))
        } else if let path {
            session = try ControlSession(socket: NamespaceTarget(path: path).socket)
        } else {
            let candidates = SocketLocation.candidates(environment: ProcessEnvironment.current(), uid: geteuid())
            session = try StatusQuery.firstListening(candidates)
        }
        defer { session.client.close() }
        let report = try StatusQuery.ask(session)
        Output.standard().write(json ? JSONText.of(report) + "\n" : report.text())
    }
}

/// What `larder status` does.
package enum StatusQuery {
    /// A session with the first coordinator that listens.
    /// - Throws: `CommandFailure`: unavailable when none does, naming the place where one is expected.
    package static func firstListening(_ sockets: [String]) throws(CommandFailure) -> ControlSession {
        var first: CommandFailure?
        for socket in sockets {
            do throws(CommandFailure) { return try ControlSession(socket: socket) } catch {
                if first == nil || error.code != ExitStatus.unavailable.rawValue { first = error }
            }
        }
        throw first ?? CommandFailure(.unavailable, "no coordinator listens")
    }

    @available(*, noasync, message: "blocks its thread")
    package static func ask(_ session: ControlSession) throws(CommandFailure) -> StatusReport {
        let what = "get the status"
        guard case .status(let status) = try session.ask(.getStatus(WireGetStatus()), what) else {
            throw session.unexpectedAnswer(what)
        }
        return StatusReport(status)
    }
}
