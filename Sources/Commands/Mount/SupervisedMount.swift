import FileSystem
import FuseBridge
import Glibc
import Logging
import Platform
import SystemPackage

/// A mount as its supervisor sees it: what passes from one of its processes to the next, and the process that serves it now.
final class SupervisedMount: Sendable {
    /// What became of one process.
    enum End {
        case unmounted
        /// The mount never came to be.
        case failed(CommandFailure)
        /// It has ended so that another program can go on.
        case handedOver
        case died(String)
    }

    private struct State {
        var program = ChildProcess.currentProgram()
        /// The program to go back to when a new one does not come up.
        var former: String?
        /// The program to go on with, once the process has ended for it.
        var next: String?
        /// The FUSE connection.
        var device: Descriptor?
        /// The process that serves, once it takes signals.
        var process: Int32?
        var wasReady = false
        var mustEnd = false
    }

    let memory: SessionMemory
    private let invocation: MountInvocation
    private let report: StartReporter
    private let logger: Logger
    private let state = Lock(State())

    /// How long a successor may take until it serves: it needs nobody for that.
    private static let patience: Duration = .seconds(20)

    /// - Parameter device: of a mount that another supervisor has left behind.
    init(
        _ invocation: MountInvocation, _ memory: SessionMemory, _ report: StartReporter, _ logger: Logger,
        device: Descriptor? = nil
    ) {
        self.invocation = invocation
        self.memory = memory
        self.report = report
        self.logger = logger
        state.withLock { $0.device = device }
    }

    /// Starts a process and returns when it has ended.
    @available(*, noasync, message: "blocks its thread")
    func runProcess() -> End {
        let (program, device) = state.withLock { ($0.program, $0.device) }
        let pid: Int32
        let channel: SupervisorChannel
        do throws(Errno) { (pid, channel) = try start(program) } catch {
            return ended("could not be started (\(program): \(error))", unmounted: false, failure: nil)
        }
        channel.send("begin", [memory.file] + (device.map { [$0] } ?? []))
        let isReady = OneShot<Void>()
        if device != nil { watch(pid, until: isReady) }
        let hasEnded = OneShot<Void>()
        let isStuck = watchEnd(pid, channel, until: hasEnded)
        var failure: CommandFailure?
        var isUnmounted = false
        while let message = channel.receive() {
            let words = message.text.split(separator: " ", maxSplits: 1)
            let rest = words.count > 1 ? String(words[1]) : ""
            switch words.first {
            case "watching": tellProcess(pid)
            case "mounted": state.withLock { $0.device = message.descriptors.first }
            case "ready":
                isReady.set(())
                noteReady()
            case "failed": failure = CommandFailure(reported: rest)
            case "note": report.note(rest)
            case "unmounted": isUnmounted = true
            default: break
            }
        }
        isReady.set(())
        hasEnded.set(())
        let how: String
        if isStuck.withLock({ $0 }) {
            startThread(named: "larder-reaper") { _ = ChildProcess.wait(for: pid) }
            how = "was ended, and the kernel does not let go of it"
        } else {
            let code = ChildProcess.wait(for: pid)
            how = code > 128 ? "was ended by signal \(code - 128)" : "ended with \(code)"
        }
        state.withLock { $0.process = nil }
        return ended(failure.map { "failed: \($0.message)" } ?? how, unmounted: isUnmounted, failure: failure)
    }

    private func start(_ program: String) throws(Errno) -> (Int32, SupervisorChannel) {
        let (ours, theirs) = try PacketSocket.pair()
        let output = fcntl(1, F_DUPFD_CLOEXEC, 0)
        let error = fcntl(2, F_DUPFD_CLOEXEC, 0)
        // A session of its own, so that a key pressed on the terminal reaches the supervisor alone, which decides.
        let pid = try ChildProcess.start(
            program, arguments: ["larder"] + invocation.arguments() + ["--session-fd", "3"],
            environment: ProcessEnvironment.current(),
            descriptors: .init(
                output: output < 0 ? nil : Descriptor(owning: output),
                error: error < 0 ? nil : Descriptor(owning: error),
                status: theirs.descriptor), newSession: true, directory: "/")
        return (pid, SupervisorChannel(ours, report))
    }

    /// A successor that does not come up keeps everybody waiting.
    private func watch(_ pid: Int32, until isReady: OneShot<Void>) {
        startThread(named: "larder-patience") { [logger] in
            guard isReady.wait(timeout: Self.patience) == nil else { return }
            logger.error("a process does not serve the mount after \(Self.patience)", metadata: ["pid": "\(pid)"])
            try? SignalWatch.send(SIGKILL, to: pid)
        }
    }

    /// A thread that makes the kernel forget a name waits for the lock of its directory, and no signal ends that. Killed then, the
    /// process is there until somebody answers the request whose caller has the lock: a successor.
    private func watchEnd(_ pid: Int32, _ channel: SupervisorChannel, until hasEnded: OneShot<Void>) -> Lock<Bool> {
        let isStuck = Lock(false)
        startThread(named: "larder-end") {
            var timesDead = 0
            while hasEnded.wait(timeout: .milliseconds(Self.lookInterval)) == nil {
                timesDead = ChildProcess.isRunning(pid) ? 0 : timesDead + 1
                guard timesDead > 1 else { continue }
                isStuck.withLock { $0 = true }
                return channel.end()
            }
        }
        return isStuck
    }

    private static let lookInterval = 500

    private func noteReady() {
        let (isFirst, isUpgraded) = state.withLock { state in
            defer {
                state.wasReady = true
                state.former = nil
            }
            return (!state.wasReady, state.former != nil)
        }
        if isFirst { report.ready() }
        if isUpgraded { memory.answerUpgrade(memory.upgrades.wanted, "") }
    }

    private func ended(_ how: String, unmounted: Bool, failure: CommandFailure?) -> End {
        enum Next { case end(End), fallBack(from: String) }
        let next: Next = state.withLock { state in
            if unmounted { return .end(.unmounted) }
            guard state.wasReady else {
                return .end(.failed(failure ?? CommandFailure(.software, "the mount's process \(how)")))
            }
            if let program = state.next {
                (state.former, state.program, state.next) = (state.program, program, nil)
                return .end(.handedOver)
            }
            guard let former = state.former else { return .end(.died(how)) }
            defer { (state.program, state.former) = (former, nil) }
            return .fallBack(from: state.program)
        }
        switch next {
        case .end(.failed(let failure)):
            // Killed between the mount and its first answer.
            if state.withLock({ $0.device != nil }),
                MountTable.entry(at: invocation.mountPoint)?.type == MountPoints.type
            {
                try? FuseMount.unmount(at: invocation.mountPoint, lazily: true)
            }
            return .failed(failure)
        case .end(let end): return end
        case .fallBack(let program):
            logger.error("\(program) \(how); the mount goes on with the program that it had")
            memory.answerUpgrade(memory.upgrades.wanted, "\(program) \(how)")
            return .handedOver
        }
    }

    /// Nobody goes on: who waits for the mount gets an error.
    func giveUp(_ reason: String) -> CommandFailure {
        state.withLock { $0.device = nil }
        FuseMount.abort(at: invocation.mountPoint)
        let failure = CommandFailure(
            .software,
            "\(invocation.mountPoint) is given up: \(reason); remove it with: larder umount --force \(invocation.mountPoint)"
        )
        logger.error("\(failure.message)")
        return failure
    }

    // MARK: Signals

    func receive(_ signal: Int32) {
        if signal == SIGUSR1 { return handOver() }
        let (process, wasEnding) = state.withLock { state in
            defer { state.mustEnd = true }
            return (state.process, state.mustEnd)
        }
        guard wasEnding else {
            if let process { try? SignalWatch.send(SIGTERM, to: process) }
            return
        }
        // The second signal of an impatient user: open files are left behind.
        if let process { try? SignalWatch.send(SIGKILL, to: process) }
        FuseMount.abort(at: invocation.mountPoint)
        exit(128 + signal)
    }

    /// A process takes signals now: it hears of those that came before.
    private func tellProcess(_ pid: Int32) {
        let (mustEnd, mustHandOver) = state.withLock { state in
            state.process = pid
            return (state.mustEnd, state.next != nil)
        }
        if mustEnd { try? SignalWatch.send(SIGTERM, to: pid) }
        if mustHandOver { try? SignalWatch.send(SIGUSR1, to: pid) }
    }

    /// `larder upgrade` has written into the session's memory which program it wants.
    private func handOver() {
        let (wanted, done) = memory.upgrades
        guard wanted > done else { return }
        let program = memory.upgradeProgram
        let refusal: String? =
            if !memory.isResumable {
                "this kernel cannot send requests again (Linux 6.9 can)"
            } else if access(
                program, X_OK) != 0
            { "\(program) cannot be run" } else { nil }
        if let refusal { return memory.answerUpgrade(wanted, refusal) }
        let process = state.withLock { state in
            state.next = program
            return state.process
        }
        if let process { try? SignalWatch.send(SIGUSR1, to: process) }
    }
}
