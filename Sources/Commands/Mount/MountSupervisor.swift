import FileSystem
import FuseBridge
import Glibc
import Logging
import Platform
import SystemPackage

/// Keeps one mount alive: starts the process that serves it, holds its FUSE connection, and starts a successor when it dies.
///
/// It does nothing else, so that there is little it could die of: no store, no cache, no coordinator, no FUSE.
package struct MountSupervisor {
    private let invocation: MountInvocation
    private let report: StartReporter

    package init(_ invocation: MountInvocation, report: StartReporter) {
        self.invocation = invocation
        self.report = report
    }

    /// Returns when the mount is unmounted, by SIGTERM, SIGINT or SIGHUP, or by anybody's umount.
    /// - Throws: `CommandFailure`: it could not be mounted, or could not be kept.
    @available(*, noasync, message: "blocks its thread")
    package func run() throws(CommandFailure) {
        let current = Lock<SupervisedMount?>(nil)
        let early = Lock<[Int32]>([])
        SignalWatch.start([SIGTERM, SIGINT, SIGHUP, SIGUSR1]) { signal in
            if let mount = current.withLock({ $0 }) {
                mount.receive(signal)
            } else {
                early.withLock { $0.append(signal) }
            }
        }
        SignalWatch.ignoreBrokenPipes()
        LineLogHandler.install(level: invocation.logLevel)
        var logger = Logger(label: "larder")
        logger[metadataKey: "mount"] = "\(invocation.mountPoint)"
        do throws(CommandFailure) {
            let mount = try prepare(logger)
            current.withLock { $0 = mount }
            for signal in early.withLock({ $0 }) { mount.receive(signal) }
            try supervise(mount, logger)
        } catch {
            report.failed(error)
            throw error
        }
    }

    private func prepare(_ logger: Logger) throws(CommandFailure) -> SupervisedMount {
        var invocation = invocation
        invocation.foreground = true
        if let orphan = try MountOrphan.find(invocation) {
            invocation.mountPoint = orphan.mountPoint
            logger.notice("a mount that nobody serves goes on")
            return SupervisedMount(invocation, orphan.memory, report, logger, device: orphan.device)
        }
        do throws(MountError) {
            invocation.mountPoint = try FuseMount.check(
                mountPoint: invocation.mountPoint, nonEmpty: invocation.nonEmpty)
        } catch { throw CommandFailure(code: error.exitCode, message: error.message) }
        do throws(Errno) {
            return SupervisedMount(invocation, try SessionMemory(), report, logger)
        } catch { throw CommandFailure(.osError, "there is no memory for a session: \(error)") }
    }

    private func supervise(_ mount: SupervisedMount, _ logger: Logger) throws(CommandFailure) {
        var policy = RestartPolicy()
        while true {
            let started = MonotonicClock.now()
            switch mount.runProcess() {
            case .unmounted: return
            case .failed(let failure): throw failure
            case .handedOver: continue
            case .died(let how):
                let lifetime = Int((MonotonicClock.now() - started) / 1_000_000)
                guard mount.memory.isResumable else {
                    throw mount.giveUp("its process \(how), and this kernel cannot send requests again (Linux 6.9 can)")
                }
                guard let delay = policy.delay(after: lifetime) else {
                    throw mount.giveUp(
                        "its process \(how), and \(RestartPolicy.maximumDeaths) before it died soon as well")
                }
                logger.warning("the mount's process \(how); another goes on", metadata: ["in": "\(delay) ms"])
                pause(milliseconds: delay)
            }
        }
    }
}
