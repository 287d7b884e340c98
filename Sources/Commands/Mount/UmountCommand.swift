import ArgumentParser
import FuseBridge
import Glibc
import Platform
import SystemPackage

/// `larder umount MOUNTPOINT`.
struct UmountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "umount",
        abstract: "Upload what the stores do not have yet, unmount, and wait until the mount's process has ended.")

    @Argument(help: ArgumentHelp("Mount points.", valueName: "mountpoint"), completion: .directory)
    var mountPoints: [String]
    @Flag(help: "Take the mount out of sight at once, though files are open; it ends with the last of them.")
    var lazy = false
    @Flag(help: "Wait for no upload: what the stores do not have yet is kept for the next mount.")
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
        guard let path = mountedPath() else {
            throw CommandFailure(.noInput, "nothing is mounted at \(mountPoint): larder status lists the mounts")
        }
        guard let entry = Platform.MountTable.entry(at: path), entry.type == MountPoints.type else {
            throw CommandFailure(.usage, "\(path) is not a Larder mount: use umount")
        }
        if !lazily, !forced { try upload(path, output) }
        let process = MountOwner.find(mountPoint: path)
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
            .temporaryFailure, "\(path) is unmounted, but its process \(process.pid) has not ended: see its log")
    }

    /// The mount point as the kernel lists it. By name first: a mount whose process has died answers no call.
    private func mountedPath() -> String? {
        let listed = Set(Platform.MountTable.entries().map(\.mountPoint))
        if listed.contains(mountPoint) { return mountPoint }
        if let parent = FilePaths.resolved(FilePaths.parent(of: mountPoint)),
            let name = mountPoint.split(separator: "/").last
        {
            let path = parent == "/" ? "/\(name)" : "\(parent)/\(name)"
            if listed.contains(path) { return path }
        }
        guard let resolved = FilePaths.resolved(mountPoint), listed.contains(resolved) else { return nil }
        return resolved
    }
}

/// The process that serves a mount.
struct MountOwner {
    let pid: Int32
    private let startTime: UInt64

    private init?(pid: Int32) {
        guard let time = ChildProcess.startTime(of: pid) else { return nil }
        self.pid = pid
        startTime = time
    }

    /// The pid may belong to another process by now.
    var isRunning: Bool { ChildProcess.startTime(of: pid) == startTime }

    /// By the coordinator's word, or by the command line of the processes there are; nil when it cannot be told.
    static func find(mountPoint: String) -> MountOwner? {
        if let socket = try? ExtendedAttribute.value("user.larder.coordinator", of: mountPoint).description,
            let session = try? ControlSession(socket: socket)
        {
            defer { session.client.close() }
            let mounts = (try? StatusQuery.ask(session))?.mounts ?? []
            if let mount = mounts.last(where: { $0.mountpoint == mountPoint }) { return MountOwner(pid: mount.pid) }
        }
        for pid in BusyProcesses.all() {
            let arguments = (Machine.contents(of: "/proc/\(pid)/cmdline") ?? "").split(separator: "\0")
            guard arguments.count > 3, arguments[0].split(separator: "/").last == "larder", arguments[1] == "mount",
                arguments[2...].contains(Substring(mountPoint))
            else { continue }
            return MountOwner(pid: pid)
        }
        return nil
    }
}
