import CFuse
import Coordination
import FileSystem
import Glibc
import Logging
import Platform
import SystemPackage

/// One mounted file system, served by this process.
package final class FuseMount: Sendable {
    /// Absolute, without symbolic links.
    package let mountPoint: String
    /// Whether the kernel reads complete files itself.
    package let usesPassthrough: Bool
    private let session: FuseSession
    private let fileSystem: MountedFileSystem
    /// A successor of this process could go on.
    package let isResumable: Bool

    private init(_ mountPoint: String, _ session: FuseSession, _ fileSystem: MountedFileSystem) {
        self.mountPoint = mountPoint
        self.session = session
        self.fileSystem = fileSystem
        usesPassthrough = fileSystem.usesPassthrough
        isResumable = session.isResumable
    }

    /// Mounts and serves. When it returns the mount is usable. Blocks; not on a thread that the coordinator needs.
    ///
    /// - Parameters:
    ///   - link: attached; its device is set here. It stays open when the mount ends.
    ///   - onMounted: gets the connection before the kernel's first request is answered.
    /// - Throws: `MountError`; then nothing is mounted.
    @available(*, noasync, message: "blocks its thread")
    package static func start(
        options: FuseMountOptions, link: CoordinatorLink, logger: Logger, onMounted: (Descriptor) -> Void = { _ in }
    ) throws(MountError) -> FuseMount {
        let mountPoint = try FuseDevice.resolve(options.mountPoint, nonEmpty: options.nonEmpty)
        let device = try FuseDevice.mount(options, at: mountPoint)
        onMounted(device)
        let fileSystem = MountedFileSystem(link: link, logger: logger)
        do throws(MountError) {
            let bridge = Bridge(fileSystem, isReadOnly: options.isReadOnly)
            link.memory.begin()
            let session = try openSession(device, bridge, link.memory)
            fileSystem.usesPassthrough = session.hasPassthrough
            try register(device, session, link)
            let mount = FuseMount(mountPoint, session, fileSystem)
            mount.connect(link, bridge)
            mount.serve(logger)
            return mount
        } catch {
            fileSystem.stop()
            try? FuseDevice.unmount(mountPoint, lazily: true)
            throw error
        }
    }

    /// Goes on with a mount whose process has died, and serves. Does not wait for a coordinator.
    ///
    /// - Parameters:
    ///   - device: the connection.
    ///   - link: of the session that was taken over, not yet resumed.
    /// - Throws: `MountError`; then the mount is as it was.
    @available(*, noasync, message: "blocks its thread")
    package static func resume(
        _ device: Descriptor, mountPoint: String, isReadOnly: Bool, link: CoordinatorLink, logger: Logger
    ) throws(MountError) -> FuseMount {
        link.memory.begin()
        let fileSystem = MountedFileSystem(link: link, logger: logger)
        let bridge = Bridge(fileSystem, isReadOnly: isReadOnly)
        do throws(MountError) {
            let session = try openSession(device, bridge, link.memory)
            fileSystem.usesPassthrough = session.hasPassthrough
            try register(device, session, link)
            let mount = FuseMount(mountPoint, session, fileSystem)
            mount.connect(link, bridge)
            do throws(Errno) { try session.resend() } catch {
                throw MountError(MountError.system, "the kernel does not send requests again: \(error)")
            }
            link.resume()
            mount.serve(logger)
            return mount
        } catch {
            fileSystem.stop()
            throw error
        }
    }

    private static func register(
        _ device: Descriptor, _ session: FuseSession, _ link: CoordinatorLink
    ) throws(MountError) {
        do throws(CoordinationError) {
            try link.register(
                device: device, passthrough: session.hasPassthrough, isResumable: session.isResumable)
        } catch { throw MountError(MountError.unavailable, "the coordinator refuses the mount: \(error)") }
    }

    private static func openSession(
        _ device: Descriptor, _ bridge: Bridge, _ memory: SessionMemory
    ) throws(MountError) -> FuseSession {
        let session: FuseSession
        do { session = try FuseSession(device, bridge, memory) } catch {
            throw MountError(MountError.system, "libfuse cannot start: \(error)")
        }
        guard session.negotiate() else {
            throw MountError(MountError.unavailable, "the kernel and libfuse speak no common FUSE protocol")
        }
        return session
    }

    private func connect(_ link: CoordinatorLink, _ bridge: Bridge) {
        fileSystem.onStalePages { [weak session, weak bridge] inode in
            if let bridge { session?.forget(names: [], nodes: [bridge.node(of: inode)]) {} }
        }
        link.onInvalidate { [weak session, fileSystem] invalidate, forgotten in
            fileSystem.forget(inodes: invalidate.inodes, namesIn: invalidate.names.map(\.parent))
            guard let session else { return forgotten() }
            session.forget(
                names: invalidate.names.map { (bridge.node(of: $0.parent), ByteString($0.name)) },
                nodes: invalidate.inodes.map { bridge.node(of: $0) }, then: forgotten)
        }
    }

    private func serve(_ logger: Logger) {
        // A thread works only while it copies; waiting costs none. Two per core keep the cores busy while others sleep
        // in pread, and ten are what libfuse itself takes at most.
        session.start(threads: min(10, max(4, 2 * sysconf(CInt(_SC_NPROCESSORS_ONLN)))))
        raiseReadahead(logger)
        if !usesPassthrough {
            let (major, minor) = Machine.kernelVersion()
            logger.notice(
                "reads go through this process: Linux \(major).\(minor) offers no FUSE passthrough, 6.9 and newer may"
            )
        }
    }

    /// The kernel's default readahead of 128 KiB makes eight requests of what could be one; only root may change it.
    private func raiseReadahead(_ logger: Logger) {
        guard geteuid() == 0, let device = MountTable.entry(at: mountPoint)?.device else { return }
        let path = "/sys/class/bdi/\(device)/read_ahead_kb"
        do {
            let file = try Descriptor.open(path, O_WRONLY)
            // Four reads of the largest size: one is copied out while the others are on their way.
            try Array("4096".utf8).withUnsafeBytes { try file.write($0, at: 0) }
        } catch { logger.debug("readahead stays at the kernel's default: \(path): \(error)") }
    }

    /// Blocks until nobody serves the mount any more: it was unmounted, by whomever, and its last file closed.
    @available(*, noasync, message: "blocks its thread")
    package func waitUntilUnmounted() {
        session.waitForEnd()
        fileSystem.stop()
    }

    /// Unmounts. Lazily: out of sight at once, while open files work until they are closed.
    /// - Throws: `MountError` when files are open and `lazily` is false, or nothing is mounted.
    package func unmount(lazily: Bool) throws(MountError) { try FuseDevice.unmount(mountPoint, lazily: lazily) }
}
