import ArgumentParser
import Glibc
import Platform

/// `larder doctor [SOURCE]`: finds what keeps Larder from working, or from working well.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Check this machine, and a store if one is named, and say what to do about what is wrong.")

    @Argument(help: "s3://bucket/prefix, file:///dir, a directory, or a namespace file.", completion: .file())
    var source: String?
    @OptionGroup var store: StoreFlags
    @Option(help: ArgumentHelp("Cache directory to look at.", valueName: "dir"))
    var cacheDir: String?
    @Option(help: ArgumentHelp("Socket of the coordinator to look for.", valueName: "socket"))
    var coordinator: String?
    @Flag(help: "Print a JSON array of {name, verdict, detail, remedy}.")
    var json = false

    func run() throws {
        LineLogHandler.install(level: LogLevel(.critical))
        let output = Output.standard()
        var namespace: NamespaceSpecification?
        if let source {
            namespace = try MountInvocation(source: source, mountPoint: "/", options: store.list()).namespace()
        }
        let environment = ProcessEnvironment.current()
        let cache =
            cacheDir.map { FilePaths.absolute($0) }
            ?? AutomaticCoordinator.defaultDirectory(environment: environment, uid: geteuid())
        let sockets =
            coordinator.map { [FilePaths.absolute($0)] }
            ?? SocketLocation.candidates(environment: environment, uid: geteuid())

        var findings: [Finding] = []
        func report(_ found: [Finding]) {
            findings += found
            if !json { for finding in found { output.write(finding.text) } }
        }
        report(MachineCheckup(environment: environment, uid: geteuid()).run())
        report(CacheCheckup(directory: cache).run())
        report([CoordinatorCheckup(sockets: sockets, isNamed: coordinator != nil).run()])
        for mount in namespace?.wire(environment: [:]).mounts ?? [] { report(StoreCheckup(mount).run()) }
        if json { output.line(JSONText.of(findings)) }
        let failures = findings.count { $0.verdict == .failure }
        if failures > 0 { throw CommandFailure(.unavailable, "\(failures) things are wrong: see the remedies above") }
    }
}
