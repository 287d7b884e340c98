import Coordination
import FileSystem
import FuseBridge
import Platform
import SystemPackage

/// A mount whose process and supervisor have ended, kept by its coordinator for a moment: who mounts the same again goes on with
/// it, and its callers see a pause. A container that is started again comes so to the mount that it had.
struct MountOrphan {
    let mountPoint: String
    let device: Descriptor
    let memory: SessionMemory

    /// The orphan where a mount is wanted; nil when nothing, or no mount of Larder's, is there. Makes no call on the mount.
    /// - Throws: `CommandFailure`: what is mounted there is served, or is lost.
    @available(*, noasync, message: "blocks its thread")
    static func find(_ invocation: MountInvocation) throws(CommandFailure) -> MountOrphan? {
        guard let path = FilePaths.mounted(invocation.mountPoint),
            MountTable.entry(at: path)?.type == MountPoints.type
        else { return nil }
        guard let session = try? ControlSession(socket: invocation.coordinatorSocket(ProcessEnvironment.current()))
        else { return nil }
        defer { session.client.close() }
        var request = WireTakeOverMount()
        request.mountPath = path
        // The socket of a process that has just died may not have told yet.
        for _ in 0..<10 {
            let answer = try? session.client.call(.takeOverMount(request), timeout: .seconds(10))
            if let answer, answer.descriptors.count == 2 {
                do throws(Errno) {
                    let memory = try SessionMemory(takingOver: answer.descriptors[1])
                    return MountOrphan(mountPoint: path, device: answer.descriptors[0], memory: memory)
                } catch {
                    throw CommandFailure(
                        .software,
                        "this release cannot go on with the mount at \(path); remove it: larder umount --force")
                }
            }
            let mounts = (try? StatusQuery.ask(session))?.mounts ?? []
            guard let known = mounts.last(where: { $0.mountpoint == path }) else { return nil }
            guard known.waiting || !ChildProcess.isRunning(known.pid) else { return nil }
            pause(milliseconds: 100)
        }
        return nil
    }
}
