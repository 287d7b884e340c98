import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem
@testable import FuseBridge

@Suite("A mount that cannot be made")
struct MountErrorTests {
    private func failure(_ path: String, nonEmpty: Bool = false) throws -> MountError? {
        do throws(MountError) {
            _ = try FuseDevice.resolve(path, nonEmpty: nonEmpty)
            return nil
        } catch { return error }
    }

    @Test("says that the mount point is missing, no directory, or not empty")
    func mountPoint() throws {
        let coordinator = try FakeCoordinator()
        let directory = coordinator.directory
        let missing = try #require(try failure(directory + "/missing"))
        #expect(
            missing.exitCode == 66
                && missing.message.contains("does not exist; create it with: mkdir -p \(directory)/missing"))
        let file = try coordinator.reference([1])
        #expect(try failure(file)?.message == "mount point \(file) is not a directory")
        #expect(try failure(file + "/below")?.message == "mount point \(file)/below is not a directory")
        let full = try #require(try failure(directory))
        #expect(full.message == "mount point \(directory) is not empty; use an empty directory or -o nonempty")
        #expect(try failure(directory, nonEmpty: true) == nil)
    }

    @Test("says what is mounted there already")
    func alreadyMounted() async throws {
        let fixture = try await MountFixture.start(try FakeCoordinator())
        let error = try #require(try failure(fixture.path))
        #expect(error.message.contains("already has fake://tree,a b mounted by Larder; first: larder umount"))
    }

    @Test("says how to remove a dead mount, whose server is gone")
    func deadMount() throws {
        let coordinator = try FakeCoordinator()
        let path = coordinator.directory + "/dead"
        mkdir(path, 0o755)
        // A connection whose descriptor is closed at once, mounted under another type than ours.
        do {
            let device = try Descriptor.open("/dev/fuse", O_RDWR)
            try MountTable.mount(
                "dead", at: path, type: "fuse.other", flags: 0,
                data: ["fd=\(device.raw)", "rootmode=40000", "user_id=0", "group_id=0"])
        }
        defer {
            try? MountTable.unmount(path, lazily: true)
            rmdir(path)
        }
        let error = try #require(try failure(path))
        #expect(error.message.contains("is a dead mount"))
        #expect(error.message.contains("umount -l \(path)"))
    }

    @Test("fusermount3 lends a connection, shows the source as it is, and unmounts")
    func fusermount() async throws {
        let coordinator = try FakeCoordinator()
        let path = coordinator.directory + "/user"
        mkdir(path, 0o755)
        defer {
            try? MountTable.unmount(path, lazily: true)
            rmdir(path)
        }
        try await blocking {
            let options = FuseMountOptions(
                mountPoint: path, source: "s3://bucket/a,b", allowOther: true, extra: ["noatime"])
            let device = try Fusermount.mount(options, at: path)
            #expect(fcntl(device.raw, F_GETFD) & FD_CLOEXEC != 0)
            let mounted = try #require(MountPoints.list().last { $0.mountPoint == path })
            #expect(mounted.source == "s3://bucket/a,b")
            #expect(
                ["ro", "nosuid", "nodev", "noatime", "allow_other", "default_permissions"].allSatisfy(
                    mounted.options.contains))
            try Fusermount.unmount(path, lazily: false)
            #expect(!MountPoints.list().contains { $0.mountPoint == path })
            #expect(throws: MountError.self) { try Fusermount.unmount(path, lazily: false) }
        }
    }

    @Test("fusermount3's refusal is passed on in one line")
    func fusermountRefuses() async throws {
        let error = try await blocking { () -> MountError? in
            do throws(MountError) {
                _ = try Fusermount.mount(.init(mountPoint: "/proc/self/no", source: "x"), at: "/proc/self/no")
                return nil
            } catch { return error }
        }
        #expect(error?.message.hasPrefix("cannot mount at /proc/self/no: ") == true)
        #expect(error?.message.contains("\n") == false)
    }

    @Test("an unmount of nothing is an error, and a busy one says so")
    func unmount() {
        #expect(throws: MountError(64, "nothing is mounted at /usr")) { try FuseDevice.unmount("/usr", lazily: false) }
    }

    @Test(
        "errors reach the kernel as numbers that it takes, and never as ENOSYS",
        arguments: [
            (Errno.noSuchFileOrDirectory, ENOENT), (.staleNFSFileHandle, ESTALE), (.noFunction, EOPNOTSUPP),
            (.socketNotConnected, EIO), (.brokenPipe, EIO), (Errno(rawValue: 0), EIO), (Errno(rawValue: -5), EIO),
            (Errno(rawValue: 512), EIO), (.interrupted, EINTR),
        ])
    func numbers(_ error: Errno, _ number: CInt) { #expect(ErrnoMapping.number(for: error) == number) }
}
