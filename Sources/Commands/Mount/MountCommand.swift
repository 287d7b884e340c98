import ArgumentParser
import Glibc
import Platform

/// `larder mount SOURCE MOUNTPOINT`.
struct MountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mount", abstract: "Mount a bucket, a directory, or a namespace of several.",
        discussion: """
            SOURCE is s3://bucket/prefix, file:///dir, a directory, or a namespace file (YAML). Credentials are found as \
            AWS tools find them: environment, ~/.aws, web identity, container and instance metadata.

            Returns when the mount is usable; its log is in ~/.local/state/larder/log (/var/log/larder for root).

            From fstab: s3://bucket/prefix  /mnt/lake  fuse.larder  ro,_netdev,allow_other  0 0
            """)

    @Argument(help: "What to mount.", completion: .file())
    var source: String
    @Argument(help: ArgumentHelp("An empty directory.", valueName: "mountpoint"), completion: .directory)
    var mountPoint: String
    @OptionGroup var flags: MountFlags

    func run() throws {
        let supervisor = flags.sessionFD.map { SupervisorChannel(inherited: $0) }
        let report = supervisor?.report ?? StartReporter(number: flags.statusFD)
        let invocation: MountInvocation
        do throws(CommandFailure) {
            invocation = try MountInvocation(source: source, mountPoint: mountPoint, options: flags.list())
        } catch {
            report.failed(error)
            throw error
        }
        if let supervisor {
            // The supervisor says why, for both.
            do throws(CommandFailure) { try MountProcess(invocation, supervisor).run() } catch {
                Glibc.exit(error.code)
            }
        } else if invocation.foreground {
            try MountSupervisor(invocation, report: report).run()
        } else {
            try MountLauncher(invocation).run(Output.standard())
        }
    }
}

/// Starts the mount's daemon and waits until the mount can be used.
package struct MountLauncher {
    private let invocation: MountInvocation

    package init(_ invocation: MountInvocation) { self.invocation = invocation }

    /// - Throws: what the daemon reports.
    @available(*, noasync, message: "blocks its thread")
    package func run(_ output: Output) throws(CommandFailure) {
        // A wrong file is reported without starting anything.
        let namespace = try invocation.namespace()
        try namespace.checkAgainst(mountPoint: invocation.mountPoint)
        let daemon = Lock<Int32?>(nil)
        let isInterrupted = OneShot<Void>()
        SignalWatch.start([SIGINT, SIGTERM, SIGHUP]) { signal in
            isInterrupted.set(())
            guard let pid = daemon.withLock({ $0 }) else { exit(128 + signal) }
            try? SignalWatch.send(SIGTERM, to: pid)
        }
        var inForeground = invocation
        inForeground.foreground = true
        let log = DaemonLog.open(DaemonLog.name(mountPoint: invocation.mountPoint))
        let child = try DaemonProcess.start(
            "mount process", arguments: ["larder"] + inForeground.arguments() + ["--status-fd", "3"],
            environment: ProcessEnvironment.current(), log: log)
        daemon.withLock { $0 = child.pid }
        do throws(CommandFailure) {
            try StartReport.wait(child.reports, name: "mount process", log: log.path) {
                output.noteLine("larder: note: \($0)")
            }
        } catch {
            guard isInterrupted.wait(timeout: .zero) == nil else {
                throw CommandFailure(.interrupted, "mounting \(invocation.sourceText) was interrupted")
            }
            throw error
        }
    }
}
