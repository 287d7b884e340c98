import FileSystem
import Glibc
import Platform
import SystemPackage

/// Mounting and unmounting: by mount(2) where that is allowed, else through fusermount3, which is set-user-id root.
enum FuseDevice {
    /// Mounts and returns the connection's descriptor, on which the kernel's FUSE_INIT waits.
    static func mount(_ options: FuseMountOptions, at mountPoint: String) throws(MountError) -> Descriptor {
        if geteuid() == 0, Machine.hasCapability(21) {  // CAP_SYS_ADMIN
            return try mountDirectly(options, at: mountPoint)
        }
        return try Fusermount.mount(options, at: mountPoint)
    }

    /// Checks that something can be mounted at `path`, and resolves it.
    static func resolve(_ path: String, nonEmpty: Bool) throws(MountError) -> String {
        guard let resolved = realpath(path, nil) else { throw unresolved(path, Errno(rawValue: errno)) }
        defer { free(resolved) }
        let mountPoint = String(cString: resolved)
        // Before any other call on it: a dead mount answers nothing.
        if let entry = MountTable.entry(at: mountPoint), entry.type == MountPoints.type {
            throw MountError(
                MountError.usage,
                "\(mountPoint) already has \(entry.source) mounted by Larder; first: larder umount \(mountPoint)"
            )
        }
        let (isDirectory, isEmpty) = try inspect(mountPoint)
        guard isDirectory else { throw unresolved(mountPoint, .notDirectory) }
        guard isEmpty || nonEmpty else {
            throw MountError(
                MountError.usage, "mount point \(mountPoint) is not empty; use an empty directory or -o nonempty")
        }
        return mountPoint
    }

    private static func inspect(_ path: String) throws(MountError) -> (isDirectory: Bool, isEmpty: Bool) {
        do throws(Errno) {
            let directory = try Descriptor.open(path, O_RDONLY)
            guard try directory.status().isDirectory else { return (false, false) }
            return (true, try DirectoryReader(directory).next() == nil)
        } catch { throw unresolved(path, error) }
    }

    private static func unresolved(_ path: String, _ error: Errno) -> MountError {
        switch error {
        case .noSuchFileOrDirectory:
            MountError(MountError.noInput, "mount point \(path) does not exist; create it with: mkdir -p \(path)")
        case .notDirectory: MountError(MountError.usage, "mount point \(path) is not a directory")
        case .socketNotConnected, .connectionAbort:
            MountError(
                MountError.usage,
                "\(path) is a dead mount (\"Transport endpoint is not connected\"); remove it with: umount -l \(path)")
        case .permissionDenied:
            MountError(MountError.noPermission, "mount point \(path) may not be entered by this user")
        default: MountError(MountError.system, "mount point \(path): \(error)")
        }
    }

    private static func mountDirectly(
        _ options: FuseMountOptions, at mountPoint: String
    ) throws(MountError) -> Descriptor {
        let device: Descriptor
        do { device = try Descriptor.open("/dev/fuse", O_RDWR) } catch {
            throw MountError(
                MountError.unavailable,
                "/dev/fuse: \(error); load the fuse module (modprobe fuse) or give the container the device")
        }
        var data = [
            "fd=\(device.raw)", "rootmode=40000", "user_id=\(getuid())", "group_id=\(getgid())", "default_permissions",
            "allow_other", "max_read=\(ReadBuffer.size)",
        ]
        var flags = MountFlag.noSetuid | MountFlag.noDevices
        if options.readOnly { flags |= MountFlag.readOnly }
        for option in options.extra {
            if let flag = MountFlag.named[option] {
                flags |= flag
            } else if !MountFlag.isIgnored(option) {
                data.append(option)
            }
        }
        do {
            try MountTable.mount(options.source, at: mountPoint, type: MountPoints.type, flags: flags, data: data)
        } catch {
            let advice =
                switch error {
                case .notPermitted: "this process may not mount here (a container needs CAP_SYS_ADMIN)"
                case .invalidArgument: "the kernel refuses an option of \(data.dropFirst(5).joined(separator: ","))"
                case .operationNotSupportedByDevice: "the kernel has no FUSE; load it with: modprobe fuse"
                default: "\(error)"
                }
            let code = error == .notPermitted ? MountError.noPermission : MountError.system
            throw MountError(code, "cannot mount at \(mountPoint): \(advice)")
        }
        return device
    }

    /// Unmounts `path` (resolved).
    static func unmount(_ path: String, lazily: Bool) throws(MountError) {
        do throws(Errno) { try MountTable.unmount(path, lazily: lazily) } catch {
            switch error {
            case .notPermitted where geteuid() != 0: try Fusermount.unmount(path, lazily: lazily)
            case .resourceBusy:
                throw MountError(
                    MountError.unavailable,
                    "\(path) is busy: a process has a file or its working directory there; end it, or unmount lazily")
            case .invalidArgument, .noSuchFileOrDirectory:
                throw MountError(MountError.usage, "nothing is mounted at \(path)")
            default: throw MountError(MountError.system, "cannot unmount \(path): \(error)")
            }
        }
    }
}

/// mount(2) flags, as sys/mount.h numbers them.
enum MountFlag {
    static let readOnly: UInt = 1
    static let noSetuid: UInt = 2
    static let noDevices: UInt = 4

    /// What fstab may say and the kernel takes as a flag.
    static let named: [String: UInt] = [
        "ro": readOnly, "nosuid": noSetuid, "nodev": noDevices, "noexec": 8, "sync": 16, "noatime": 1024,
        "nodiratime": 2048, "relatime": 1 << 21, "strictatime": 1 << 24,
    ]

    /// What fstab says to mount(8) and not to the kernel, what is always so here, and what a lake must not bring
    /// (set-user-id programs, devices).
    static func isIgnored(_ option: String) -> Bool {
        let names: Set<String> = [
            "defaults", "rw", "auto", "noauto", "user", "users", "nouser", "owner", "group", "nofail", "_netdev",
            "exec",
            "suid", "dev", "async", "atime", "diratime", "nonempty", "allow_other", "default_permissions", "",
        ]
        return names.contains(option) || option.hasPrefix("x-") || option.hasPrefix("comment=")
    }
}
