import FuseBridge
import Glibc
import Platform

/// Unmounting whatever the state of the mount and of its processes.
///
/// Nothing here waits for an answer of the mount: its process may be stopped, or gone while somebody still holds its connection.
struct ForcedUnmounting {
    private let path: String

    /// How long what is healthy may take, in milliseconds: the unmount, and the end of the processes after it.
    private static let patience = 3000
    private static let step = 20

    /// - Parameter path: as the kernel lists it.
    init(_ path: String) { self.path = path }

    /// - Throws: `CommandFailure` when the kernel does not let this user unmount.
    @available(*, noasync, message: "blocks its thread")
    func run() throws(CommandFailure) {
        let owner = MountOwner.find(mountPoint: path)
        if !unmountInOrder() {
            // Who waits for an answer gets an error, and the processes, if they run, see their mount end.
            FuseMount.abort(at: path)
            do throws(MountError) { try FuseMount.unmountForced(at: path) } catch {
                throw CommandFailure(code: error.exitCode, message: error.message)
            }
        }
        guard let owner else { return }
        for _ in 0..<Self.patience / Self.step where owner.isRunning { pause(milliseconds: Self.step) }
        for pid in owner.remaining { try? SignalWatch.send(SIGKILL, to: pid) }
        for _ in 0..<Self.patience / Self.step where owner.isRunning { pause(milliseconds: Self.step) }
        guard owner.isRunning else { return }
        throw CommandFailure(
            .temporaryFailure, "\(path) is unmounted, but its process \(owner.remaining) has not ended: see its log")
    }

    /// False when files are open, or nobody answers what the kernel asks at an unmount.
    private func unmountInOrder() -> Bool {
        let outcome = OneShot<Bool>()
        startThread(named: "larder-unmount") { [path] in
            do throws(MountError) {
                try FuseMount.unmount(at: path, lazily: false)
                outcome.set(true)
            } catch { outcome.set(false) }
        }
        return outcome.wait(timeout: .milliseconds(Self.patience)) ?? false
    }
}
