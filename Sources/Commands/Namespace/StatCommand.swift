import ArgumentParser
import Coordination

/// `larder stat PATH…`: what Larder knows of a file.
struct StatCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stat", abstract: "Show where a file comes from, its version, and how much of it is cached.")

    @Argument(help: "Paths in a Larder mount.", completion: .file())
    var paths: [String]
    @Flag(help: "Print a JSON array.")
    var json = false

    func run() throws {
        var targets: [NamespaceTarget] = []
        for path in paths { targets.append(try NamespaceTarget(path: path)) }
        try Stat(targets: targets, json: json).run(Output.standard())
    }
}

/// What `larder stat` does.
package struct Stat {
    package let targets: [NamespaceTarget]
    package let json: Bool

    package init(targets: [NamespaceTarget], json: Bool) {
        self.targets = targets
        self.json = json
    }

    @available(*, noasync, message: "blocks its thread")
    package func run(_ output: Output) throws(CommandFailure) {
        var reports: [NodeReport] = []
        for target in targets { reports.append(try report(of: target)) }
        if json { return output.line(JSONText.of(reports)) }
        for (index, report) in reports.enumerated() {
            if index > 0 { output.line("") }
            output.write(Self.text(of: report))
        }
    }

    private func report(of target: NamespaceTarget) throws(CommandFailure) -> NodeReport {
        let session = try ControlSession(socket: target.socket)
        defer { session.client.close() }
        var request = WireDescribe()
        request.inode = target.inode
        let what = "describe \(target.path)"
        guard case .description_p(let description) = try session.ask(.describe(request), what) else {
            throw session.unexpectedAnswer(what)
        }
        var report = NodeReport(description)
        report.path = target.path
        report.coordinator = target.socket
        return report
    }

    private static func text(of report: NodeReport) -> String {
        var table = TextTable([.left, .left])
        func row(_ key: String, _ value: String?) { if let value { table.add([key + ":", value]) } }
        row("path", report.path.map { PrintableName.of($0) })
        row("url", report.url.map { PrintableName.of($0) })
        row("kind", report.kind)
        row("size", report.kind == "file" ? "\(ByteSize.format(report.size)) (\(report.size) bytes)" : nil)
        row("mode", "\(report.mode)  uid \(report.uid)  gid \(report.gid)")
        row("modified", report.modified)
        row("version", report.version.map { PrintableName.of($0) })
        if let cached = report.cachedBytes {
            let tier = report.tier.map { " in \($0)" } ?? ""
            row("cached", "\(ByteSize.format(cached)) (\(report.cachedText))\(tier)")
        }
        row("inode", "\(report.inode)")
        row("coordinator", report.coordinator)
        return table.text()
    }
}
