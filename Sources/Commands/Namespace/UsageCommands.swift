import ArgumentParser
import Coordination

/// `larder du PATH…`: how much is there, and how much of it is cached.
struct UsageCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "du", abstract: "Sum up files, bytes and cached bytes below a directory.")

    @Argument(help: "Paths in a Larder mount.", completion: .file())
    var paths: [String] = ["."]
    @Flag(help: "Print a JSON array.")
    var json = false

    func run() throws {
        let targets = try paths.map { try NamespaceTarget(path: $0) }
        try UsageSum(targets: targets, action: .measure, json: json).run(Output.standard())
    }
}

/// `larder free PATH…`: drops what is cached.
struct FreeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "free", abstract: "Drop what is cached below a path; the store is not touched.")

    @Argument(help: "Paths in a Larder mount.", completion: .file())
    var paths: [String]
    @Flag(help: "Print a JSON array of what was freed.")
    var json = false

    func run() throws {
        let targets = try paths.map { try NamespaceTarget(path: $0) }
        try UsageSum(targets: targets, action: .free, json: json).run(Output.standard())
    }
}

/// One line of `du --json` and `free --json`.
package struct UsageReport: Encodable, Hashable, Sendable {
    package var path: String
    package var files, directories, bytes, cachedBytes: UInt64
}

/// What `larder du` and `larder free` do.
package struct UsageSum {
    package enum Action: Sendable { case measure, free }

    private let targets: [NamespaceTarget]
    private let action: Action
    private let json: Bool

    package init(targets: [NamespaceTarget], action: Action, json: Bool) {
        self.targets = targets
        self.action = action
        self.json = json
    }

    @available(*, noasync, message: "blocks its thread")
    package func run(_ output: Output) throws(CommandFailure) {
        var reports: [UsageReport] = []
        for target in targets { reports.append(try usage(of: target)) }
        if json { return output.line(JSONText.of(reports)) }
        switch action {
        case .measure:
            var table = TextTable(
                [.right, .right, .right, .right, .left], header: ["SIZE", "CACHED", "FILES", "DIRS", "PATH"])
            for report in reports {
                table.add([
                    ByteSize.format(report.bytes), ByteSize.format(report.cachedBytes), "\(report.files)",
                    "\(report.directories)", PrintableName.of(report.path),
                ])
            }
            output.write(table.text())
        case .free:
            for report in reports {
                output.line(
                    "\(PrintableName.of(report.path)): freed \(ByteSize.format(report.cachedBytes)) of \(report.files) files"
                )
            }
        }
    }

    private func usage(of target: NamespaceTarget) throws(CommandFailure) -> UsageReport {
        let session = try ControlSession(socket: target.socket)
        defer { session.client.close() }
        let what: String
        let body: WireEnvelope.OneOf_Body
        switch action {
        case .measure:
            what = "measure \(target.path)"
            var request = WireMeasure()
            request.inode = target.inode
            body = .measure(request)
        case .free:
            what = "free \(target.path)"
            var request = WireFree()
            request.inode = target.inode
            body = .free(request)
        }
        guard case .usage(let usage) = try session.ask(body, what) else { throw session.unexpectedAnswer(what) }
        return UsageReport(
            path: target.path, files: usage.files, directories: usage.directories, bytes: usage.bytes,
            cachedBytes: usage.cachedBytes)
    }
}
