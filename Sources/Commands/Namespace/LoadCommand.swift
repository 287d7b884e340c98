import ArgumentParser
import Coordination
import Glibc
import Platform

/// `larder load PATH…`: fetches everything below a path into the cache.
struct LoadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Fetch everything below a path into the cache; Ctrl-C stops.")

    @Argument(help: "Paths in a Larder mount.", completion: .file())
    var paths: [String]
    @Option(help: ArgumentHelp("Files fetched at once; chosen by the coordinator by default.", valueName: "number"))
    var parallel: UInt32 = 0
    @Flag(help: "Print a JSON array of what was loaded.")
    var json = false

    func run() throws {
        let targets = try paths.map { try NamespaceTarget(path: $0) }
        let stop = OneShot<Void>()
        SignalWatch.start([SIGINT, SIGTERM]) { _ in stop.set(()) }
        try Loading(targets: targets, parallel: parallel, json: json).run(Output.standard(), stop: stop)
    }
}

/// One line of `load --json`.
package struct LoadReport: Encodable, Hashable, Sendable {
    package var path: String
    package var files, bytes, failures: UInt64
    package var lastError: String?
}

/// What `larder load` does.
package struct Loading {
    private let targets: [NamespaceTarget]
    private let parallel: UInt32
    private let json: Bool

    package init(targets: [NamespaceTarget], parallel: UInt32, json: Bool) {
        self.targets = targets
        self.parallel = parallel
        self.json = json
    }

    /// - Parameter stop: set to end early; what was loaded by then stays.
    /// - Throws: `CommandFailure`: interrupted, inputOutput when some files could not be loaded.
    @available(*, noasync, message: "blocks its thread")
    package func run(_ output: Output, stop: OneShot<Void>) throws(CommandFailure) {
        var reports: [LoadReport] = []
        for target in targets { reports.append(try load(target, output, stop)) }
        if json { output.line(JSONText.of(reports)) }
        if let failed = reports.first(where: { $0.failures > 0 }) {
            throw CommandFailure(
                .inputOutput,
                "\(failed.failures) files below \(failed.path) could not be loaded, the last one: \(failed.lastError ?? "?")"
            )
        }
    }

    private func load(
        _ target: NamespaceTarget, _ output: Output, _ stop: OneShot<Void>
    ) throws(CommandFailure) -> LoadReport {
        let session = try ControlSession(socket: target.socket)
        defer { session.client.close() }
        let begin = MonotonicClock.now()
        let style: LoadProgress.Style = output.terminalColumns.map { .bar(columns: $0) } ?? .lines
        let display = Lock(LoadProgress(style: style))
        let outcome = OneShot<Result<WireProgress, CoordinationError>?>()
        // The coordinator stops a load whose session has gone.
        startThread(named: "larder-stop") { if stop.wait() != nil { outcome.set(nil) } }

        var request = WireLoad()
        request.inode = target.inode
        request.parallel = parallel
        session.client.request(.load(request), until: Self.isLast) { result in
            switch result {
            case .failure(let error): outcome.set(.failure(error))
            case .success(let reply):
                guard case .progress(let progress) = reply.body else {
                    outcome.set(.failure(CoordinationError(.protocolError, "the coordinator answered something else")))
                    return
                }
                let time = Double(MonotonicClock.now() - begin) / 1e9
                if let text = display.withLock({ $0.update(progress, at: time) }) { output.note(text) }
                if progress.end { outcome.set(.success(progress)) }
            }
        }
        guard let result = outcome.wait() ?? nil else {
            if case .bar = style { output.note("\n") }
            throw CommandFailure(.interrupted, "loading \(target.path) was stopped; what is loaded stays cached")
        }
        switch result {
        case .failure(let error): throw CommandFailure(error, while: "load \(target.path)")
        case .success(let progress):
            if !json, progress.filesDone == 0, let reason = nothingLoaded(target, session) {
                output.line("\(PrintableName.of(target.path)): \(reason)")
            } else if !json {
                output.line(Self.summary(progress, of: target, seconds: Double(MonotonicClock.now() - begin) / 1e9))
            }
            return LoadReport(
                path: target.path, files: progress.filesDone, bytes: progress.bytesDone, failures: progress.failures,
                lastError: progress.lastError.isEmpty ? nil : progress.lastError)
        }
    }

    /// Why a load found no file to fetch, where there are files; nil where there are none.
    private func nothingLoaded(_ target: NamespaceTarget, _ session: ControlSession) -> String? {
        var request = WireMeasure()
        request.inode = target.inode
        guard case .usage(let usage)? = try? session.ask(.measure(request), "measure \(target.path)"), usage.files > 0
        else { return nil }
        return "nothing to load: \(usage.files) files are not cached but read in place"
            + " (a local directory with cache: auto), or never kept (cache: never)"
    }

    private static let isLast: @Sendable (WireEnvelope.OneOf_Body) -> Bool = { body in
        guard case .progress(let progress) = body else { return true }
        return progress.end
    }

    private static func summary(_ progress: WireProgress, of target: NamespaceTarget, seconds: Double) -> String {
        let rate = ByteSize.format(UInt64(Double(progress.bytesDone) / max(seconds, 0.001)))
        return "\(PrintableName.of(target.path)): loaded \(progress.filesDone) files, "
            + "\(ByteSize.format(progress.bytesDone)) in \(TimeSpan.format(seconds: seconds)) (\(rate)/s)"
    }
}
