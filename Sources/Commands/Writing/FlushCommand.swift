import ArgumentParser
import Coordination
import Platform

/// `larder flush PATH…`: waits until everything below a path is in its store.
struct FlushCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flush", abstract: "Upload everything below a path that its store does not have yet, and wait.")

    @Argument(help: "Paths in a Larder mount.", completion: .file())
    var paths: [String] = ["."]
    @Flag(help: "Print a JSON array of what was uploaded.")
    var json = false

    func run() throws {
        let targets = try paths.map { try NamespaceTarget(path: $0) }
        try Flushing(targets: targets, json: json).run(Output.standard())
    }
}

/// What `larder flush` does.
package struct Flushing {
    private let targets: [NamespaceTarget]
    private let json: Bool

    package init(targets: [NamespaceTarget], json: Bool) {
        self.targets = targets
        self.json = json
    }

    /// - Throws: `CommandFailure`: inputOutput when something could not be uploaded; it is kept.
    @available(*, noasync, message: "blocks its thread")
    package func run(_ output: Output) throws(CommandFailure) {
        var reports: [LoadReport] = []
        for target in targets { reports.append(try flush(target, output)) }
        if json { output.line(JSONText.of(reports)) }
        if let failed = reports.first(where: { $0.failures > 0 }) {
            throw CommandFailure(
                .inputOutput,
                "\(failed.failures) files below \(failed.path) could not be uploaded and are kept, the last one: "
                    + (failed.lastError ?? "?"))
        }
    }

    private func flush(_ target: NamespaceTarget, _ output: Output) throws(CommandFailure) -> LoadReport {
        let session = try ControlSession(socket: target.socket)
        defer { session.client.close() }
        var request = WireFlush()
        request.inode = target.inode
        let what = "flush \(target.path)"
        guard case .progress(let progress) = try session.ask(.flush(request), what) else {
            throw session.unexpectedAnswer(what)
        }
        if !json {
            let size = ByteSize.format(progress.bytesDone)
            output.line("\(PrintableName.of(target.path)): uploaded \(progress.filesDone) files, \(size)")
        }
        return LoadReport(
            path: target.path, files: progress.filesDone, bytes: progress.bytesDone, failures: progress.failures,
            lastError: progress.lastError.isEmpty ? nil : progress.lastError)
    }
}
