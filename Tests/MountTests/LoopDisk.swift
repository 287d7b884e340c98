import Glibc
import Platform
import TestSupport

/// An ext4 file system on a loop device whose disk can break: then what is not in memory can neither be read nor written
/// (EIO). It is gone when the object is.
final class LoopDisk: Sendable {
    let path: String
    private let memory: String
    private let image: String

    init(_ node: LarderNode, bytes: UInt64, named name: String = "disk") async throws {
        try node.directory.makeDirectory(name)
        try node.directory.makeDirectory("\(name).image")
        path = node.directory.file(name)
        memory = node.directory.file("\(name).image")
        image = "\(memory)/image"
        try await node.run("mount", "-t", "tmpfs", "tmpfs", memory)
        try Descriptor.open(image, O_RDWR | O_CREAT).resize(to: bytes)
        try Descriptor.open("\(memory)/filler", O_RDWR | O_CREAT).allocate(mode: 0, at: 0, length: 4096)
        // No journal: its thread would find the disk gone before any reader of the cache does.
        try await node.run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=0", image)
        // The kernel lets go of the loop device together with the mount.
        try await node.run("mount", "-o", "loop,errors=continue", image, path)
    }

    /// From now on whatever is not in memory is an I/O error.
    func fail(_ node: LarderNode) async throws {
        try await node.run("sync", "-f", path)
        try await Self.forgetPages(below: path, node)
        // Reads lie beyond the end of the image, and writes find no room to make it longer: the filler has it all.
        try Descriptor.open(image, O_RDWR).resize(to: 0)
        try await node.run("mount", "-o", "remount,size=4k", memory)
    }

    /// Makes the kernel forget what it keeps of files, without disturbing any other.
    static func forgetPages(below path: String, _ node: LarderNode) async throws {
        try await node.run(
            "find", path, "-type", "f", "-size", "+1M", "-exec", "dd", "if={}", "iflag=nocache", "count=0",
            "status=none", ";")
    }

    deinit {
        try? MountTable.unmount(path, lazily: true)
        try? MountTable.unmount(memory, lazily: true)
    }
}
