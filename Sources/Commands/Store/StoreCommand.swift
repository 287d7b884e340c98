import ArgumentParser
import Coordination
import Coordinator
import Glibc
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
        commandName: "test",
        abstract: "Check that a store keeps the contract that Larder relies on, and say what it enforces by itself.",
        discussion: """
            Writes only below a name .larder-probe-contract-… of its own at the URL's prefix, which is gone again at the \
            end, also after failures and Ctrl-C.
            """)

    @Argument(help: "s3://bucket/prefix, file:///dir, a directory, or a namespace file.", completion: .file())
    var source: String
    @OptionGroup var store: StoreFlags
    @Flag(help: "Write nothing: only reading is tested.")
    var readOnly = false
    @Flag(
        help: "Print a JSON array of {source, identity, writing, checks, requirements, passed, failed}.")
    var json = false

    func run() throws {
        let stop = OneShot<Void>()
        SignalWatch.start([SIGINT, SIGTERM]) { _ in
            guard stop.set(()) else {
                Output.standard().noteLine("larder: ended at once; what .larder-probe-contract-… has is left behind")
                Glibc.exit(ExitStatus.interrupted.rawValue)
            }
        }
        LineLogHandler.install(level: LogLevel(.error))
        var options = store.list()
        if readOnly { options.append(("read-only", nil)) }
        let invocation = try MountInvocation(source: source, mountPoint: "/", options: options)
        try StoreTest(namespace: try invocation.namespace(), json: json).run(Output.standard(), stop: stop)
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

    package struct Requirement: Encodable, Hashable, Sendable {
        package var name: String
        /// Whether the store does it by itself.
        package var isMet: Bool
        /// What Larder does where the store does not.
        package var otherwise: String?
    }

    package var source: String
    package var identity: String
    /// tested, readOnly, unsupported.
    package var writing = "tested"
    package var checks: [Check] = []
    package var requirements: [Requirement] = []
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

    /// - Parameter stop: set to end after the check that runs, with what was written removed.
    /// - Throws: `CommandFailure`: what keeps a store from being opened, interrupted, dataError when a check failed.
    @available(*, noasync, message: "blocks its thread")
    package func run(_ output: Output, stop: OneShot<Void> = OneShot()) throws(CommandFailure) {
        var reports: [StoreTestReport] = []
        for specification in namespace.wire(environment: [:]).mounts where !stop.isSet {
            let store = try Self.open(specification)
            if !json { output.line("\(specification.source) (\(store.identity))") }
            let report = test(store, specification, output: json ? nil : output, stop)
            if !json { output.write(Self.requirements(of: report)) }
            reports.append(report)
        }
        if json { output.line(JSONText.of(reports)) }
        for report in reports where !json {
            let writing =
                switch report.writing {
                case "readOnly": "; writing was not tested (read-only)"
                case "unsupported": "; writing was not tested: the store cannot be written"
                default: ""
                }
            output.line("\(report.source): \(report.passed) passed, \(report.failed) failed\(writing)")
        }
        if stop.isSet { throw CommandFailure(.interrupted, "interrupted; what was written for the test is removed") }
        if let report = reports.first(where: { $0.failed > 0 }) {
            throw CommandFailure(
                .dataError,
                "\(report.source) breaks the contract in \(report.failed) checks: data read or written there may be wrong"
            )
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

    private func test(
        _ store: any UnderStore, _ specification: WireMountSpecification, output: Output?, _ stop: OneShot<Void>
    ) -> StoreTestReport {
        var report = StoreTestReport(source: specification.source, identity: store.identity.text)
        if specification.readOnly {
            report.writing = "readOnly"
        } else if store.objectWriting == nil, store.fileWriting == nil {
            report.writing = "unsupported"
        }
        let writes = report.writing == "tested"
        let results = BlockingTask.run {
            let contract = StoreContract(store)
            let show: @Sendable (ContractResult) -> Void = { output?.write(Self.line(for: $0)) }
            var results = await contract.run(isStopped: { stop.isSet }, report: show)
            guard writes, !stop.isSet else { return results }
            results += await contract.runObjectWriting(isStopped: { stop.isSet }, report: show)
            let caller = Caller(uid: geteuid(), gid: getegid(), isChecked: true)
            results += await contract.runFileWriting(as: caller, isStopped: { stop.isSet }, report: show)
            return results
        }
        for result in results { report.add(result) }
        report.requirements = (store.objectWriting?.requirements ?? []).map {
            .init(name: $0.name, isMet: $0.isMet, otherwise: $0.isMet ? nil : $0.otherwise)
        }
        return report
    }

    /// What the store does by itself, a line each; empty when that is not known.
    private static func requirements(of report: StoreTestReport) -> String {
        guard !report.requirements.isEmpty else { return "" }
        return report.requirements.reduce(into: "what the store enforces or does by itself:\n") { text, requirement in
            let rest = requirement.otherwise.map { " (\($0))" } ?? ""
            text += "\(requirement.isMet ? "yes" : "no ")   \(requirement.name)\(rest)\n"
        }
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
            "\(word)  \(result.name)\(text.isEmpty ? "" : ": \(PrintableName.of(text))") (\(result.milliseconds) ms)\n"
    }
}

extension StoreTestReport {
    fileprivate mutating func add(_ result: ContractResult) {
        var check = Check(
            name: result.name, outcome: "passed", detail: result.note.isEmpty ? nil : result.note,
            milliseconds: result.milliseconds)
        switch result.outcome {
        case .passed: passed += 1
        case .failed(let reason):
            failed += 1
            check.outcome = "failed"
            check.detail = reason
        case .notApplicable(let reason):
            check.outcome = "notApplicable"
            check.detail = reason
        }
        checks.append(check)
    }
}

extension ContractResult {
    fileprivate var milliseconds: Int64 {
        duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
    }
}
