import ArgumentParser
import Coordination
import Coordinator
import Logging
import Platform
import UnderStores

/// `larder store …`.
struct StoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store", abstract: "Work on a store itself, without a mount.", subcommands: [StoreTestCommand.self]
    )
}

/// `larder store test URL`: does a store do what Larder relies on?
struct StoreTestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test", abstract: "Check that a store keeps the contract that Larder relies on; only reads.")

    @Argument(help: "s3://bucket/prefix, file:///dir, a directory, or a namespace file.", completion: .file())
    var source: String
    @OptionGroup var store: StoreFlags
    @Flag(help: "Print a JSON array of {source, identity, checks, passed, failed}.")
    var json = false

    func run() throws {
        LineLogHandler.install(level: LogLevel(.error))
        let invocation = try MountInvocation(source: source, mountPoint: "/", options: store.list())
        try StoreTest(namespace: try invocation.namespace(), json: json).run(Output.standard())
    }
}

/// One store's result, as `store test --json` shows it.
package struct StoreTestReport: Encodable, Hashable, Sendable {
    package struct Check: Encodable, Hashable, Sendable {
        package var name: String
        /// passed, failed, notApplicable.
        package var outcome: String
        /// Why it failed or does not apply, or what was learned.
        package var detail: String?
        package var milliseconds: Int64
    }

    package var source: String
    package var identity: String
    package var checks: [Check] = []
    package var passed = 0
    package var failed = 0
}

/// What `larder store test` does.
package struct StoreTest {
    private let namespace: NamespaceSpecification
    private let json: Bool

    package init(namespace: NamespaceSpecification, json: Bool) {
        self.namespace = namespace
        self.json = json
    }

    /// - Throws: `CommandFailure`: what keeps a store from being opened, dataError when a check failed.
    @available(*, noasync, message: "blocks its thread")
    package func run(_ output: Output) throws(CommandFailure) {
        var reports: [StoreTestReport] = []
        for specification in namespace.wire(environment: [:]).mounts {
            let store = try Self.open(specification)
            if !json { output.line("\(specification.source) (\(store.identity))") }
            reports.append(Self.test(store, source: specification.source, output: json ? nil : output))
        }
        if json { output.line(JSONText.of(reports)) }
        for report in reports where !json {
            output.line("\(report.source): \(report.passed) passed, \(report.failed) failed")
        }
        if let report = reports.first(where: { $0.failed > 0 }) {
            throw CommandFailure(
                .dataError,
                "\(report.source) breaks the contract in \(report.failed) checks: data read from it may be wrong")
        }
    }

    /// Makes the store as the coordinator would.
    @available(*, noasync, message: "blocks its thread")
    static func open(_ specification: WireMountSpecification) throws(CommandFailure) -> any UnderStore {
        let registry = StoreRegistry(logger: Logger(label: "larder"))
        let result = BlockingTask.run { () async -> Result<any UnderStore, StoreError> in
            do throws(StoreError) { return .success(try await registry.make(specification)) } catch {
                return .failure(error)
            }
        }
        do throws(StoreError) { return try result.get() } catch {
            throw CommandFailure(Self.status(of: error), "cannot open \(specification.source): \(error)")
        }
    }

    static func status(of error: StoreError) -> ExitStatus {
        switch error.kind {
        case .notFound, .notDirectory: .noInput
        case .accessDenied: .noPermission
        case .invalid, .unsupported: .configuration
        case .unavailable, .cancelled: .unavailable
        case .protocolViolation, .versionChanged: .protocolError
        case .sink, .inputOutput, .checksumMismatch: .inputOutput
        case .quotaExceeded, .tooLarge, .nameTooLong: .cannotCreate
        }
    }

    private static func test(_ store: any UnderStore, source: String, output: Output?) -> StoreTestReport {
        let results = BlockingTask.run {
            await StoreContract(store).run { result in output?.write(line(for: result)) }
        }
        var report = StoreTestReport(source: source, identity: store.identity.text)
        for result in results {
            var check = StoreTestReport.Check(
                name: result.name, outcome: "passed", detail: result.note.isEmpty ? nil : result.note,
                milliseconds: milliseconds(result.duration))
            switch result.outcome {
            case .passed: report.passed += 1
            case .failed(let reason):
                report.failed += 1
                check.outcome = "failed"
                check.detail = reason
            case .notApplicable(let reason):
                check.outcome = "notApplicable"
                check.detail = reason
            }
            report.checks.append(check)
        }
        return report
    }

    private static func line(for result: ContractResult) -> String {
        let (word, detail) =
            switch result.outcome {
            case .passed: ("pass", result.note)
            case .failed(let reason): ("FAIL", reason)
            case .notApplicable(let reason): ("  - ", reason)
            }
        let text = detail.split(whereSeparator: \.isNewline).joined(separator: " ")
        return
            "\(word)  \(result.name)\(text.isEmpty ? "" : ": \(PrintableName.of(text))") (\(milliseconds(result.duration)) ms)\n"
    }

    private static func milliseconds(_ duration: Duration) -> Int64 {
        duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
    }
}
