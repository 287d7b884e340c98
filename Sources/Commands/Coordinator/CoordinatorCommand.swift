import ArgumentParser
import Glibc
import Platform

/// `larder coordinator --config FILE`: the node's daemon, in the foreground.
struct CoordinatorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "coordinator",
        abstract: "Run the node's coordinator: it owns credentials, cache and metadata, and serves mounts.",
        discussion:
            "On a laptop larder mount starts one by itself. It stays in the foreground and logs to standard error.")

    @Option(
        help: ArgumentHelp("Configuration file (YAML).", valueName: "file"),
        completion: .file(extensions: ["yaml", "yml"]))
    var config: String?
    @Option(help: ArgumentHelp("Instead of the file's logLevel.", valueName: "level"))
    var logLevel: String?
    // What a mount gives to the coordinator that it starts.
    @Flag(help: .private)
    var auto = false
    @Option(help: .private)
    var socket: String?
    @Option(help: .private)
    var cacheDir: String?
    @Option(help: .private)
    var cacheSize: String?
    @Option(help: .private)
    var ramSize: String?
    @Option(help: .private)
    var statusFD: Int32?

    func run() throws {
        let report = StartReporter(number: statusFD)
        let settings: CoordinatorSettings
        do throws(CommandFailure) { settings = try self.settings() } catch {
            report.failed(error)
            throw error
        }
        try CoordinatorProcess(settings, leavesWithLastMount: auto).run(report)
    }

    private func settings() throws(CommandFailure) -> CoordinatorSettings {
        let level = try logLevel.map { text throws(CommandFailure) in try LogLevel(parsing: text) }
        if auto {
            let environment = ProcessEnvironment.current()
            let socket = socket ?? SocketLocation.preferred(environment: environment, uid: geteuid())
            return try AutomaticCoordinator.settings(
                socket: FilePaths.absolute(socket), cacheDirectory: cacheDir.map { FilePaths.absolute($0) },
                cacheSize: cacheSize.map { text throws(CommandFailure) in try ByteSize.parse(text) },
                ramSize: ramSize.map { text throws(CommandFailure) in try ByteSize.parse(text) },
                logLevel: level ?? .info, environment: environment, uid: geteuid())
        }
        guard let config else {
            throw CommandFailure(.usage, "a coordinator needs a configuration: larder coordinator --config FILE")
        }
        var settings = try CoordinatorFile.read(FilePaths.absolute(config))
        if let level { settings.logLevel = level }
        return settings
    }
}
