import ArgumentParser
import Coordination
import Glibc
import Platform

/// `larder conflicts`: what was written and lost a race for its object.
struct ConflictsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conflicts",
        abstract: "List, restore or discard what was written to objects that somebody else changed meanwhile.",
        discussion: """
            larder conflicts                          what there is
            larder conflicts --restore 7              upload it beside the object, as NAME.larder-conflict-7
            larder conflicts --restore 7 --to a/b     upload it as a/b of the same store
            larder conflicts --discard 7              drop it
            """)

    @Option(help: ArgumentHelp("Upload the data of this conflict, and end it.", valueName: "number"))
    var restore: UInt64?
    @Option(help: ArgumentHelp("Where to, within the same store; nothing may be there.", valueName: "path"))
    var to: String?
    @Option(help: ArgumentHelp("Drop the data of this conflict.", valueName: "number"))
    var discard: UInt64?
    @Option(help: ArgumentHelp("Socket of the coordinator; found by default.", valueName: "socket"))
    var coordinator: String?
    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        guard restore == nil || discard == nil else {
            throw ValidationError("--restore and --discard exclude each other")
        }
        guard to == nil || restore != nil else { throw ValidationError("--to needs --restore") }
    }

    func run() throws {
        let candidates =
            coordinator.map { [FilePaths.absolute($0)] }
            ?? SocketLocation.candidates(environment: ProcessEnvironment.current(), uid: geteuid())
        let session = try StatusQuery.firstListening(candidates)
        defer { session.client.close() }
        let output = Output.standard()
        if let number = restore ?? discard {
            try Conflicts.resolve(number, restoring: restore != nil, to: to, session)
            output.line("conflict \(number) is \(restore == nil ? "discarded" : "restored")")
            return
        }
        let reports = try Conflicts.list(session)
        output.write(json ? JSONText.of(reports) + "\n" : Conflicts.text(reports))
    }
}

/// One line of `larder conflicts --json`.
package struct ConflictReport: Encodable, Hashable, Sendable {
    package var number: UInt64
    package var url: String
    package var bytes: UInt64
    /// Since 1970, when the race was lost.
    package var seconds: Int64
    package var reason: String
}

/// What `larder conflicts` does.
package enum Conflicts {
    @available(*, noasync, message: "blocks its thread")
    package static func list(_ session: ControlSession) throws(CommandFailure) -> [ConflictReport] {
        let what = "list the conflicts"
        guard case .conflicts(let answer) = try session.ask(.listConflicts(.init()), what) else {
            throw session.unexpectedAnswer(what)
        }
        return answer.conflicts.map {
            ConflictReport(number: $0.number, url: $0.url, bytes: $0.bytes, seconds: $0.seconds, reason: $0.reason)
        }
    }

    @available(*, noasync, message: "blocks its thread")
    package static func resolve(
        _ number: UInt64, restoring: Bool, to path: String?, _ session: ControlSession
    ) throws(CommandFailure) {
        var request = WireResolveConflict()
        request.number = number
        request.action = restoring ? .restore : .discard
        request.path = path ?? ""
        let what = "\(restoring ? "restore" : "discard") conflict \(number)"
        guard case .done = try session.ask(.resolveConflict(request), what) else {
            throw session.unexpectedAnswer(what)
        }
    }

    package static func text(_ reports: [ConflictReport]) -> String {
        guard !reports.isEmpty else { return "no conflicts\n" }
        var table = TextTable([.right, .left, .right, .left], header: ["NUMBER", "OBJECT", "SIZE", "WHY"])
        for report in reports {
            table.add([
                "\(report.number)", PrintableName.of(report.url), ByteSize.format(report.bytes),
                PrintableName.of(report.reason),
            ])
        }
        return table.text()
    }
}
