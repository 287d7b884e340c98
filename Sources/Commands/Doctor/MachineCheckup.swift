import Glibc
import Platform
import SystemPackage

/// Whether this machine and user can mount.
package struct MachineCheckup {
    private let environment: [String: String]
    private let uid: UInt32

    package init(environment: [String: String], uid: UInt32) {
        self.environment = environment
        self.uid = uid
    }

    package func run() -> [Finding] {
        [
            kernel(Machine.kernelVersion()), device(), privilege(), allowOther(Machine.contents(of: "/etc/fuse.conf")),
            openFiles(OpenFilesLimit.current()),
        ]
    }

    package func kernel(_ version: (major: Int, minor: Int)) -> Finding {
        let text = "Linux \(version.major).\(version.minor)"
        if version < (5, 6) {
            return .failure("kernel", text, remedy: "Larder needs Linux 5.6 or newer (openat2)")
        }
        if version < (6, 9) {
            return .warning(
                "kernel", "\(text) has no FUSE passthrough: cached reads are copied",
                remedy: "use Linux 6.9 or newer for reads at the speed of local files")
        }
        return .ok("kernel", "\(text) has FUSE passthrough")
    }

    private func device() -> Finding {
        do throws(Errno) {
            _ = try Descriptor.open("/dev/fuse", O_RDWR)
            return .ok("/dev/fuse", "can be opened")
        } catch {
            let remedy =
                error == .noSuchFileOrDirectory || error == .noSuchAddressOrDevice
                ? "load the module (modprobe fuse); in a container, add the device (--device /dev/fuse)"
                : "let this user open it (chmod 666 /dev/fuse is the usual mode)"
            return .failure("/dev/fuse", "cannot be opened: \(error)", remedy: remedy)
        }
    }

    private func privilege() -> Finding {
        if uid == 0, Machine.hasCapability(21) { return .ok("mounting", "as root, without fusermount3") }
        let search = environment["PATH"] ?? "/usr/bin:/bin"
        let places: [String] = search.split(separator: ":").map { directory in "\(directory)/fusermount3" }
        guard let path = places.first(where: { access($0, X_OK) == 0 }) else {
            return .failure(
                "mounting", "there is no fusermount3, and this user may not mount",
                remedy: "install fuse3 (apt-get install fuse3), or run as root with CAP_SYS_ADMIN")
        }
        guard let status = try? FileStatus(of: path), status.uid == 0, status.mode & S_ISUID != 0 else {
            return .failure(
                "mounting", "\(path) is not set-user-id root", remedy: "reinstall fuse3, or run: chmod u+s \(path)")
        }
        return .ok("mounting", "through \(path)")
    }

    /// - Parameter configuration: the text of /etc/fuse.conf.
    package func allowOther(_ configuration: String?) -> Finding {
        if uid == 0 { return .ok("--allow-other", "allowed for root") }
        let isAllowed = (configuration ?? "").split(separator: "\n").contains {
            $0.trimmingSpaces() == "user_allow_other"
        }
        return isAllowed
            ? .ok("--allow-other", "allowed by /etc/fuse.conf")
            : .warning(
                "--allow-other", "other users cannot be let in",
                remedy: "add the line user_allow_other to /etc/fuse.conf, if they should be")
    }

    package func openFiles(_ limit: (soft: UInt64, hard: UInt64)) -> Finding {
        // Each cached file that is open costs the coordinator up to three descriptors.
        limit.hard >= 16_384
            ? .ok("open files", limit.hard == UInt64.max ? "no limit" : "up to \(limit.hard)")
            : .warning(
                "open files", "at most \(limit.hard)",
                remedy: "raise the limit to 65536 (LimitNOFILE= of the service, or /etc/security/limits.conf)")
    }
}

/// Whether the cache directory is fit.
package struct CacheCheckup {
    private static let little: UInt64 = 1 << 30
    private let directory: String

    package init(directory: String) { self.directory = directory }

    package func run() -> [Finding] {
        // It may not exist yet: then what counts is where it would be made.
        var existing = directory
        while existing != "/", (try? FileStatus(of: existing)) == nil { existing = FilePaths.parent(of: existing) }
        guard access(existing, W_OK) == 0 else {
            let error = Errno(rawValue: errno)
            return [
                .failure(
                    "cache directory", "\(directory) cannot be written: \(error)",
                    remedy: "make it writable for this user, or choose another with --cache-dir")
            ]
        }
        let path = FilePaths.resolved(existing) ?? existing
        var findings = [fileSystem(Platform.MountTable.entry(containing: path)?.type ?? "?")]
        if let space = DiskSpace(of: existing) { findings.append(freeSpace(space)) }
        return findings
    }

    package func fileSystem(_ type: String) -> Finding {
        switch type {
        case "overlay":
            .warning(
                "cache directory", "\(directory) is on overlayfs, which FUSE passthrough cannot use",
                remedy: "put the cache on a volume of its own (-v cache:/var/cache/larder, or an emptyDir)")
        case "nfs", "nfs4", "cifs", "ceph", "fuse.sshfs", "9p":
            .warning(
                "cache directory", "\(directory) is on \(type), which is remote itself",
                remedy: "put the cache on a local disk")
        case "tmpfs":
            .warning(
                "cache directory", "\(directory) is on tmpfs: it takes memory, and is empty after a restart",
                remedy: "put the cache on a local disk; --ram-size adds a RAM tier")
        default: .ok("cache directory", "\(directory) is on \(type)")
        }
    }

    package func freeSpace(_ space: DiskSpace) -> Finding {
        let free = "\(ByteSize.format(space.availableBytes)) of \(ByteSize.format(space.totalBytes)) are free"
        if space.availableBytes < Self.little {
            return .warning(
                "cache space", free, remedy: "free some space, or choose another directory with --cache-dir")
        }
        if space.totalFiles > 0, space.availableFiles < 10_000 {
            return .warning(
                "cache space", "\(free), but only \(space.availableFiles) inodes",
                remedy: "remove small files, or choose another directory with --cache-dir")
        }
        return .ok("cache space", free)
    }
}

/// Whether a coordinator answers.
package struct CoordinatorCheckup {
    private let sockets: [String]
    private let isNamed: Bool

    /// - Parameter isNamed: the user named it: that none listens is then an error.
    package init(sockets: [String], isNamed: Bool) {
        self.sockets = sockets
        self.isNamed = isNamed
    }

    @available(*, noasync, message: "blocks its thread")
    package func run() -> Finding {
        do throws(CommandFailure) {
            let session = try StatusQuery.firstListening(sockets)
            defer { session.client.close() }
            let status = try StatusQuery.ask(session).coordinator
            guard status.version == LarderVersion.software else {
                return .warning(
                    "coordinator", "\(status.version) at \(status.socket), and this is \(LarderVersion.software)",
                    remedy: "restart it, so that both are of one version")
            }
            return .ok("coordinator", "\(status.version) answers at \(status.socket), pid \(status.pid)")
        } catch {
            if error.code == ExitStatus.unavailable.rawValue, !isNamed {
                return .ok("coordinator", "none runs; larder mount starts one")
            }
            return .failure("coordinator", error.message, remedy: "look at its log, then restart it")
        }
    }
}
