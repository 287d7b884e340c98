import Glibc
import Platform

/// The processes of a mount: its supervisor, and the one that serves it.
struct MountOwner {
    private let processes: [(pid: Int32, startTime: UInt64)]
    /// The process that starts a successor; nil when it is gone or not known.
    let supervisor: Int32?

    private init?(serving pid: Int32?, supervisor: Int32?) {
        processes = [supervisor, pid].compactMap { $0 }.compactMap { pid in
            ChildProcess.startTime(of: pid).map { (pid, $0) }
        }
        guard !processes.isEmpty else { return nil }
        self.supervisor = processes.contains { $0.pid == supervisor } ? supervisor : nil
    }

    /// The supervisor first: without it nothing is started.
    var pids: [Int32] { processes.map(\.pid) }

    /// A pid may belong to another process by now.
    var isRunning: Bool { !remaining.isEmpty }

    /// Those that have not ended.
    var remaining: [Int32] {
        processes.filter { ChildProcess.startTime(of: $0.pid) == $0.startTime }.map(\.pid)
    }

    /// How long a mount may take to answer for itself, before it counts as dead.
    private static let patience: Duration = .seconds(5)

    /// Whether a mount answers. One that does not, because its process is stopped or gone, would keep any call waiting.
    @available(*, noasync, message: "blocks its thread")
    static func answers(at mountPoint: String) -> Bool {
        let answer = OneShot<Bool>()
        startThread(named: "larder-ask") { answer.set(coordinator(of: mountPoint) != nil) }
        return answer.wait(timeout: patience) ?? false
    }

    private static func coordinator(of mountPoint: String) -> String? {
        (try? ExtendedAttribute.value("user.larder.coordinator", of: mountPoint))?.description
    }

    /// By the coordinator's word, where the mount answers, or by the command line of the processes there are; nil when it
    /// cannot be told.
    static func find(mountPoint: String, isAnswering: Bool) -> MountOwner? {
        if isAnswering, let socket = coordinator(of: mountPoint), let session = try? ControlSession(socket: socket) {
            defer { session.client.close() }
            let mounts = (try? StatusQuery.ask(session))?.mounts ?? []
            if let mount = mounts.last(where: { $0.mountpoint == mountPoint }) {
                return MountOwner(serving: mount.pid, supervisor: mount.supervisor)
            }
        }
        return find(mountPoint: mountPoint)
    }

    /// Without a call on the mount.
    static func find(mountPoint: String) -> MountOwner? {
        var serving: Int32?
        var supervisor: Int32?
        for pid in BusyProcesses.all() {
            guard let arguments = arguments(of: pid), arguments[2...].contains(Substring(mountPoint)) else { continue }
            if arguments.contains("--session-fd") {
                serving = pid
                // Started in another directory, its supervisor may name the mount point in another way.
                let parent = ChildProcess.parent(of: pid) ?? 0
                if self.arguments(of: parent) != nil { supervisor = supervisor ?? parent }
            } else {
                supervisor = pid
            }
        }
        return MountOwner(serving: serving, supervisor: supervisor)
    }

    /// Of a process that mounts; nil for any other.
    private static func arguments(of pid: Int32) -> [Substring]? {
        let arguments = (Machine.contents(of: "/proc/\(pid)/cmdline") ?? "").split(separator: "\0")
        guard arguments.count > 3, arguments[0].split(separator: "/").last == "larder", arguments[1] == "mount" else {
            return nil
        }
        return arguments
    }
}
