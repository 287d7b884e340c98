import ArgumentParser
import FuseBridge
import Glibc
import Platform

/// `larder umount MOUNTPOINT`.
struct UmountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "umount",
        abstract: "Upload what the stores do not have yet, unmount, and wait until the mount's process has ended.")

    @Argument(help: ArgumentHelp("Mount points.", valueName: "mountpoint"), completion: .directory)
    var mountPoints: [String]
    @Flag(help: "Take the mount out of sight at once, though files are open; it ends with the last of them.")
    var lazy = false
    @Flag(
        help: """
            Always unmount: wait for no upload (what the stores do not have yet is kept for the next mount), nor for open files \
            or a process that is stopped or dead.
            """)
    var force = false

    func run() throws {
        for mountPoint in mountPoints {
            try Unmounting(mountPoint, lazily: lazy, forced: force).run(Output.standard())
        }
    }
}

/// What `larder umount` does with one mount point.
package struct Unmounting {
    private let mountPoint: String
    private let lazily: Bool
    private let forced: Bool

    /// How long the mount process may take to end, in steps of `pauseTime` milliseconds.
    private static let attempts = 1500
    private static let pauseTime = 20

    package init(_ mountPoint: String, lazily: Bool, forced: Bool) {
        self.mountPoint = FilePaths.absolute(mountPoint)
        self.lazily = lazily
        self.forced = forced
    }

    /// - Throws: `CommandFailure`: temporaryFailure when the mount is busy, or has files that cannot be uploaded now.
    @available(*, noasync, message: "blocks its thread")
    package func run(_ output: Output) throws(CommandFailure) {
        guard let path = FilePaths.mounted(mountPoint) else {
            throw CommandFailure(.noInput, "nothing is mounted at \(mountPoint): larder status lists the mounts")
        }
        guard let entry = Platform.MountTable.entry(at: path), entry.type == MountPoints.type else {
            throw CommandFailure(.usage, "\(path) is not a Larder mount: use umount")
        }
        if forced { return try ForcedUnmounting(path).run() }
        let isAnswering = MountOwner.answers(at: path)
        if !isAnswering, MountOwner.find(mountPoint: path) == nil {
            // Nobody will ever answer, and the question that waits for an answer would itself keep the mount busy.
            return try ForcedUnmounting(path).run()
        }
        if !lazily, isAnswering { try upload(path, output) }
        let process = MountOwner.find(mountPoint: path, isAnswering: isAnswering)
        do throws(MountError) { try FuseMount.unmount(at: path, lazily: lazily) } catch {
            let users = lazily ? [] : BusyProcesses.using(path, device: entry.device)
            guard !users.isEmpty else { throw CommandFailure(code: error.exitCode, message: error.message) }
            let list = users.prefix(8).map { "\($0.pid) (\($0.name))" }.joined(separator: ", ")
            throw CommandFailure(
                .temporaryFailure,
                "\(path) is busy: in use by process \(list)\(users.count > 8 ? ", …" : ""); end it, or use --lazy")
        }
        // A lazy unmount leaves the process to its open files.
        if !lazily, let process { try wait(for: process, path) }
    }

    /// A mount that cannot be asked any more, because its process or its coordinator has gone, is unmounted all the same.
    private func upload(_ path: String, _ output: Output) throws(CommandFailure) {
        guard let target = try? NamespaceTarget(path: path),
            let session = try? ControlSession(socket: target.socket)
        else { return }
        defer { session.client.close() }
        guard let pending = (try? StatusQuery.ask(session))?.pending, !pending.isEmpty else { return }
        do throws(CommandFailure) { try Flushing(targets: [target], json: false).run(output) } catch {
            throw CommandFailure(
                .temporaryFailure,
                "\(path) stays mounted: \(error.message); try again, or use --force to keep them for the next mount")
        }
    }

    private func wait(for process: MountOwner, _ path: String) throws(CommandFailure) {
        for _ in 0..<Self.attempts {
            guard process.isRunning else { return }
            pause(milliseconds: Self.pauseTime)
        }
        throw CommandFailure(
            .temporaryFailure, "\(path) is unmounted, but its process \(process.pids) has not ended: see its log")
    }
}
