import Glibc
import Platform
import SystemPackage

/// Where the daemons of this user write their log.
package enum DaemonLog {
    /// A log longer than this is put aside (as NAME.1) when a daemon starts.
    private static let longest: UInt64 = 16 << 20

    /// `$XDG_STATE_HOME/larder/log`, else /var/log/larder for root, else ~/.local/state/larder/log.
    package static func directory(environment: [String: String], uid: UInt32) -> String {
        if let state = environment["XDG_STATE_HOME"], state.hasPrefix("/") { return state + "/larder/log" }
        if uid == 0 { return "/var/log/larder" }
        guard let home = FilePaths.homeDirectory(environment: environment) else { return "/tmp/larder-\(uid)/log" }
        return home + "/.local/state/larder/log"
    }

    /// The name of a mount's log: `mount-mnt-lake.log` for /mnt/lake; as systemd names mount units.
    package static func name(mountPoint: String) -> String {
        let parts = mountPoint.split(separator: "/").map { part in
            part.utf8.reduce(into: "") { result, byte in
                let scalar = Unicode.Scalar(byte)
                let isPlain =
                    byte < 0x80 && (scalar.properties.isAlphabetic || scalar.properties.numericType != nil)
                    || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
                result += isPlain ? String(Character(scalar)) : "\\x" + String(byte, radix: 16)
            }
        }
        return "mount-" + (parts.isEmpty ? "root" : String(parts.joined(separator: "-").prefix(200))) + ".log"
    }

    /// Opens the log for appending, making its directory. nil when that cannot be: a daemon without a log is better than
    /// no daemon.
    package static func open(_ name: String) -> (file: Descriptor?, path: String) {
        let directory = directory(environment: ProcessEnvironment.current(), uid: geteuid())
        let path = directory + "/" + name
        try? SocketLocation.makeDirectory(directory, mode: 0o700)
        if let size = try? FileStatus(of: path).size, size > longest { rename(path, path + ".1") }
        return (try? Descriptor.open(path, O_WRONLY | O_CREAT | O_APPEND, mode: 0o600), path)
    }
}
