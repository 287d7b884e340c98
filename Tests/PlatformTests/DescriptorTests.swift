import Glibc
import Platform
import SystemPackage
import Testing

@Suite("Descriptor, MappedRegion and paths beneath a directory")
struct DescriptorTests {
    private func write(_ bytes: [UInt8], to file: Descriptor, at offset: UInt64) throws {
        try bytes.withUnsafeBytes { try file.write($0, at: offset) }
    }

    private func read(_ count: Int, from file: Descriptor, at offset: UInt64) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xEE, count: count)
        let filled = try bytes.withUnsafeMutableBytes { try file.read(into: $0, at: offset) }
        return Array(bytes.prefix(filled))
    }

    @Test("positional reads and writes, and the end of the file")
    func readWrite() throws {
        let file = try Descriptor.memory(named: "test")
        try write([1, 2, 3], to: file, at: 5)
        #expect(try file.status().size == 8)
        #expect(try read(8, from: file, at: 0) == [0, 0, 0, 0, 0, 1, 2, 3])
        #expect(try read(100, from: file, at: 6) == [2, 3])
        #expect(try read(4, from: file, at: 8) == [] && read(0, from: file, at: 0) == [])
        try file.resize(to: 6)
        #expect(try read(100, from: file, at: 0) == [0, 0, 0, 0, 0, 1])
        try file.synchronizeData()
    }

    @Test("a punched hole reads as zeros, keeps the size and gives its space back")
    func punch() throws {
        let file = try Descriptor.memory(named: "test")
        try write(Array(repeating: 1, count: 256 << 10), to: file, at: 0)
        let before = try file.status().blocks
        try file.punchHole(at: 64 << 10, length: 128 << 10)
        let status = try file.status()
        #expect(status.size == 256 << 10 && status.blocks < before)
        #expect(try read(128 << 10, from: file, at: 64 << 10).allSatisfy { $0 == 0 })
        #expect(try read(1, from: file, at: (64 << 10) - 1) == [1] && read(1, from: file, at: 192 << 10) == [1])
    }

    @Test("errors carry their errno")
    func errors() throws {
        #expect(throws: Errno.noSuchFileOrDirectory) { try Descriptor.open("/no/such/file", O_RDONLY) }
        let (reading, _) = try Descriptor.pipe()
        #expect(throws: Errno(rawValue: ESPIPE)) { try read(1, from: reading, at: 0) }
    }

    @Test("a descriptor is closed with its last reference; a duplicate lives on")
    func ownership() throws {
        let file = try Descriptor.memory(named: "test")
        let copy = try file.duplicate()
        #expect(copy.raw != file.raw && fcntl(copy.raw, F_GETFD) & FD_CLOEXEC != 0)
        #expect(try copy.status().inode == file.status().inode)
        let (reading, count) = try pipeWithoutWriter()
        var item = pollfd(fd: reading.raw, events: Int16(POLLIN), revents: 0)
        #expect(poll(&item, 1, 0) == count && item.revents & Int16(POLLHUP) != 0)
    }

    private func pipeWithoutWriter() throws -> (Descriptor, CInt) { (try Descriptor.pipe().reading, 1) }

    @Test("two exclusive locks exclude each other")
    func locks() throws {
        let directory = try TemporaryTree()
        let first = try Descriptor.open(directory.path + "/lock", O_RDWR | O_CREAT)
        let second = try Descriptor.open(directory.path + "/lock", O_RDWR)
        try first.lockExclusively()
        #expect(throws: Errno.wouldBlock) { try second.lockExclusively() }
    }

    @Test("what is written to one mapping is seen in another and in the file")
    func mapping() throws {
        let file = try Descriptor.memory(named: "map")
        try file.resize(to: 8192)
        let writer = try MappedRegion(file, count: 8192, writable: true)
        let reader = try MappedRegion(file.duplicate(), count: 8192, writable: false)
        writer.base.storeBytes(of: 0xDEAD_BEEF, toByteOffset: 4096, as: UInt32.self)
        #expect(reader.base.load(fromByteOffset: 4096, as: UInt32.self) == 0xDEAD_BEEF)
        #expect(try read(4, from: file, at: 4096) == [0xEF, 0xBE, 0xAD, 0xDE])
    }

    @Test("a file opened for reading cannot be mapped for writing, and nothing of length 0 can be mapped")
    func badMappings() throws {
        let directory = try TemporaryTree()
        try directory.write("file", [1])
        let file = try Descriptor.open(directory.path + "/file", O_RDONLY)
        #expect(throws: Errno.permissionDenied) { try MappedRegion(file, count: 1, writable: true) }
        #expect(throws: Errno.invalidArgument) { try MappedRegion(file, count: 0, writable: false) }
    }

    @Test(
        "no path leads out of a directory",
        arguments: [
            "..", "../x", "a/../../x", "/etc/passwd", "/", "out/passwd", "up/etc/passwd", "magic/etc/passwd",
        ])
    func escapes(path: String) throws {
        let tree = try TemporaryTree()
        try tree.write("a/file", [1])
        symlink("/etc", tree.path + "/out")
        symlink("../../..", tree.path + "/up")
        symlink("/proc/self/root", tree.path + "/magic")
        let root = try Descriptor.open(tree.path, O_RDONLY | O_DIRECTORY)
        for followingLinks in [false, true] {
            #expect(throws: Errno.self) {
                try root.open(beneath: ByteString(path), O_RDONLY, followingLinks: followingLinks)
            }
        }
    }

    @Test("links that stay beneath are followed only when asked to be")
    func innerLinks() throws {
        let tree = try TemporaryTree()
        try tree.write("a/file", [1])
        symlink("a", tree.path + "/link")
        let root = try Descriptor.open(tree.path, O_RDONLY | O_DIRECTORY)
        #expect(throws: Errno.tooManySymbolicLinkLevels) { try root.open(beneath: "link/file", O_RDONLY) }
        #expect(try root.open(beneath: "link/file", O_RDONLY, followingLinks: true).status().size == 1)
        let link = try root.open(beneath: "link", Descriptor.pathOnly | O_NOFOLLOW)
        #expect(try link.status().isSymbolicLink && link.linkTarget() == "a")
        #expect(throws: Errno.self) { try root.open(beneath: "a/file", Descriptor.pathOnly).linkTarget() }
    }

    @Test("the empty path is the directory itself, files can be made beneath it, and NULs are refused")
    func beneath() throws {
        let tree = try TemporaryTree()
        let root = try Descriptor.open(tree.path, O_RDONLY | O_DIRECTORY)
        #expect(try root.open(beneath: "", O_RDONLY | O_DIRECTORY).status().inode == root.status().inode)
        let made = try root.open(beneath: "new", O_RDWR | O_CREAT | O_EXCL, mode: 0o640)
        #expect(try made.status().mode & 0o777 == 0o640)
        #expect(throws: Errno.invalidArgument) { try root.open(beneath: "new\0/../..", O_RDONLY) }
        #expect(throws: Errno.notDirectory) { try root.open(beneath: "new/x", O_RDONLY) }
    }

    @Test("a directory is read name by name, without dots, whatever the bytes")
    func directoryReader() throws {
        let tree = try TemporaryTree()
        var names = Set((0..<3000).map { ByteString("a-rather-long-name-of-a-file-\($0)") })
        names.insert(ByteString([0xFF, 0x20, 0xFE]))
        names.insert(ByteString(String(repeating: "n", count: 255)))
        for name in names { try tree.write(name, []) }
        let reader = DirectoryReader(try Descriptor.open(tree.path, O_RDONLY | O_DIRECTORY))
        var seen: [ByteString] = []
        while let name = try reader.next() { seen.append(name) }
        #expect(seen.count == names.count && Set(seen) == names)
        #expect(try reader.next() == nil)
        let status = try ByteString([0xFF, 0x20, 0xFE]).withCString { name throws(Errno) in
            try FileStatus(of: name, in: reader.directory.raw)
        }
        #expect(status.isRegularFile)
    }
}

/// A directory that is removed, with its files and links, when the last reference goes.
final class TemporaryTree: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/larder-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        if let directory = try? Descriptor.open(path, O_RDONLY | O_DIRECTORY) { Self.empty(directory) }
        rmdir(path)
    }

    /// Makes a file and the directories above it.
    func write(_ name: ByteString, _ bytes: [UInt8]) throws {
        var directory = ByteString(path)
        for part in name.components.dropLast() {
            directory = directory.appending(component: part)
            _ = directory.withCString { mkdir($0, 0o755) }
        }
        let root = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
        let file = try root.open(beneath: name, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
    }

    private static func empty(_ directory: Descriptor) {
        let reader = DirectoryReader(directory)
        while let name = try? reader.next() {
            if let inner = try? directory.open(beneath: name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW) { empty(inner) }
            if name.withCString({ unlinkat(directory.raw, $0, 0) }) != 0 {
                _ = name.withCString { unlinkat(directory.raw, $0, AT_REMOVEDIR) }
            }
        }
    }
}
