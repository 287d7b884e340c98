import FileSystem
import Glibc
import Platform
import SystemPackage

/// fusermount3(1), which mounts for users without privilege.
///
/// Its protocol (libfuse's lib/mount.c): it finds one end of a stream socket by the number in _FUSE_COMMFD, and sends
/// the descriptor of /dev/fuse over it with one byte of data.
enum Fusermount {
    private static let places = ["/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3"]

    static func mount(_ options: FuseMountOptions, at mountPoint: String) throws(MountError) -> Descriptor {
        var words = [
            "nosuid", "nodev", "default_permissions", "max_read=\(ReadBuffer.size)", "subtype=larder",
            "fsname=\(escape(options.source))",
        ]
        if options.readOnly { words.append("ro") }
        if options.allowOther { words.append("allow_other") }
        words += options.extra.filter { !MountFlag.isIgnored($0) && !words.contains($0) }
        let (child, message, socket) = try startMounting(words.joined(separator: ","), at: mountPoint)
        let received = try? receive(from: socket)
        let code = ChildProcess.wait(for: child)
        if let received { return received }
        throw explain(text(of: message), code, options, mountPoint)
    }

    // When it returns, the program has the only other end of the socket, so that its end is seen.
    private static func startMounting(
        _ options: String, at mountPoint: String
    ) throws(MountError) -> (child: Int32, message: Descriptor, socket: Descriptor) {
        let (ours, theirs) = try pair()
        let (child, message) = try start(
            ["-o", options, "--", mountPoint], for: "mount at \(mountPoint)", status: theirs)
        return (child, message, ours)
    }

    static func unmount(_ path: String, lazily: Bool) throws(MountError) {
        let arguments = ["-u"] + (lazily ? ["-z"] : []) + ["--", path]
        let (child, message) = try start(arguments, for: "unmount \(path)", status: nil)
        let said = text(of: message)
        guard ChildProcess.wait(for: child) != 0 else { return }
        if said.contains("busy") {
            throw MountError(
                MountError.unavailable,
                "\(path) is busy: a process has a file or its working directory there; end it, or unmount lazily")
        }
        throw MountError(MountError.system, "cannot unmount \(path): \(said)")
    }

    // Commas separate options.
    private static func escape(_ source: String) -> String {
        source.reduce(into: "") { $0 += ($1 == "," || $1 == "\\") ? "\\\($1)" : String($1) }
    }

    private static func pair() throws(MountError) -> (Descriptor, Descriptor) {
        var ends: [CInt] = [-1, -1]
        let kind = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw MountError(MountError.system, "socketpair: \(Errno(rawValue: errno))")
        }
        return (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
    }

    /// Starts the program; what it says goes into a memory file.
    private static func start(
        _ arguments: [String], for purpose: String, status: Descriptor?
    ) throws(MountError) -> (child: Int32, message: Descriptor) {
        guard let program = places.first(where: { access($0, X_OK) == 0 }) else {
            throw MountError(
                MountError.unavailable, "cannot \(purpose) without privilege: fusermount3 is missing; install fuse3")
        }
        do throws(Errno) {
            let message = try Descriptor.memory(named: "fusermount3")
            let child = try ChildProcess.start(
                program, arguments: ["fusermount3"] + arguments,
                environment: ["_FUSE_COMMFD": "3", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"],
                descriptors: .init(error: message, status: status), newSession: false)
            return (child, message)
        } catch { throw MountError(MountError.system, "cannot \(purpose): starting \(program): \(error)") }
    }

    private static func receive(from socket: Descriptor) throws(Errno) -> Descriptor? {
        var byte: UInt8 = 0
        let message = try withUnsafeMutableBytes(of: &byte) { (bytes) throws(Errno) in
            try PacketSocket(socket).receive(into: bytes)
        }
        return message.descriptors.first
    }

    private static func text(of file: Descriptor) -> String {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = (try? bytes.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }) ?? 0
        let lines = String(decoding: bytes.prefix(count), as: UTF8.self).split(separator: "\n")
        return lines.joined(separator: "; ")
    }

    /// What it says is for people; only these cases need other advice than its own.
    private static func explain(
        _ said: String, _ code: Int32, _ options: FuseMountOptions, _ mountPoint: String
    ) -> MountError {
        if access("/dev/fuse", F_OK) != 0 {
            return MountError(
                MountError.unavailable, "/dev/fuse is missing; load the module: modprobe fuse")
        }
        if access("/dev/fuse", R_OK | W_OK) != 0 {
            return MountError(
                MountError.noPermission, "this user may not open /dev/fuse; as root: chmod 666 /dev/fuse")
        }
        if options.allowOther, said.contains("user_allow_other") {
            return MountError(
                MountError.noPermission,
                "--allow-other needs the line user_allow_other in /etc/fuse.conf (as root), or leave it out")
        }
        let reason = said.isEmpty ? "fusermount3 ended with \(code)" : said
        return MountError(MountError.noPermission, "cannot mount at \(mountPoint): \(reason)")
    }
}
