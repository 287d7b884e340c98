import Glibc
import Platform
import SystemPackage

/// Where the coordinator's socket is, when nobody says.
package enum SocketLocation {
    /// The node's coordinator.
    package static let system = "/run/larder/coordinator.sock"
    /// sockaddr_un(7): 108 bytes with the NUL.
    package static let longestPath = 107

    /// The socket of the user's own coordinator: `$XDG_RUNTIME_DIR/larder/coordinator.sock`, else /run/larder for root,
    /// else /tmp/larder-UID. The runtime directory counts only when it is the user's: `sudo` may have left another's.
    package static func preferred(
        environment: [String: String], uid: UInt32,
        isOwned: (_ directory: String, _ uid: UInt32) -> Bool = { isOwned($0, by: $1) }
    ) -> String {
        if let runtime = environment["XDG_RUNTIME_DIR"], runtime.hasPrefix("/"), isOwned(runtime, uid) {
            return FilePaths.absolute(runtime + "/larder/coordinator.sock", relativeTo: "/")
        }
        return uid == 0 ? system : "/tmp/larder-\(uid)/coordinator.sock"
    }

    /// Where a coordinator may listen that this user could ask, the most likely first.
    package static func candidates(environment: [String: String], uid: UInt32) -> [String] {
        let preferred = preferred(environment: environment, uid: uid)
        let fallback = uid == 0 ? system : "/tmp/larder-\(uid)/coordinator.sock"
        var result = [preferred]
        for path in [fallback, system] where !result.contains(path) { result.append(path) }
        return result
    }

    package static func isOwned(_ directory: String, by uid: UInt32) -> Bool {
        guard let status = try? FileStatus(of: directory, flags: AT_SYMLINK_NOFOLLOW) else { return false }
        return status.isDirectory && status.uid == uid
    }

    /// Makes the directory of `socket`, with mode 0700, or checks the one that is there: /tmp is everybody's, and whoever
    /// owns the directory could stand in for the coordinator and be handed credentials.
    /// - Throws: `CommandFailure`.
    package static func prepareDirectory(of socket: String, uid: UInt32 = geteuid()) throws(CommandFailure) {
        guard socket.utf8.count <= longestPath else {
            throw CommandFailure(
                .configuration, "the socket path \(socket) is longer than \(longestPath) bytes: choose a shorter one")
        }
        let directory = FilePaths.parent(of: socket)
        try makeDirectory(directory, mode: 0o700)
        let status: FileStatus
        do throws(Errno) { status = try FileStatus(of: directory, flags: AT_SYMLINK_NOFOLLOW) } catch {
            throw CommandFailure(.cannotCreate, "cannot look at \(directory): \(error)")
        }
        guard status.isDirectory else {
            throw CommandFailure(.noPermission, "\(directory) is not a directory: remove it, or set XDG_RUNTIME_DIR")
        }
        guard status.uid == uid else {
            throw CommandFailure(
                .noPermission,
                "\(directory) belongs to user \(status.uid), not to you: another user could pose as the coordinator; "
                    + "remove it, or set XDG_RUNTIME_DIR")
        }
        guard status.mode & 0o022 == 0 else {
            throw CommandFailure(
                .noPermission, "\(directory) can be written by other users: run chmod 700 \(directory)")
        }
    }

    /// mkdir -p: `mode` for the last directory, 0755 for those above it. What exists is left as it is.
    package static func makeDirectory(_ path: String, mode: mode_t) throws(CommandFailure) {
        if mkdir(path, mode) == 0 || errno == EEXIST { return }
        var error = Errno(rawValue: errno)
        if error == .noSuchFileOrDirectory, path != "/" {
            try makeDirectory(FilePaths.parent(of: path), mode: mode == 0o700 ? 0o755 : mode)
            if mkdir(path, mode) == 0 || errno == EEXIST { return }
            error = Errno(rawValue: errno)
        }
        throw CommandFailure(.cannotCreate, "cannot create the directory \(path): \(error)")
    }
}
