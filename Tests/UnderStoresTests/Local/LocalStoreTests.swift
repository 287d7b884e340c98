import Glibc
import Platform
import Testing

@testable import UnderStores

@Suite("LocalStore")
struct LocalStoreTests {
    let scratch: ScratchDirectory
    let store: LocalStore

    init() throws {
        scratch = try ScratchDirectory()
        store = try LocalStore(root: scratch.path)
    }

    @Test("shows native metadata")
    func metadata() async throws {
        try scratch.write("dir/file", Array(repeating: 7, count: 10_000))
        let path = scratch.path + "/dir/file"
        chmod(path, 0o4640)
        link(path, scratch.path + "/dir/second")
        var times = [
            timespec(tv_sec: 1_500_000_000, tv_nsec: 123), timespec(tv_sec: 1_400_000_000, tv_nsec: 987_654_321),
        ]
        utimensat(AT_FDCWD, path, &times, 0)
        let found = try #require(try await store.lookup("dir/file"))
        #expect(found.kind == .file)
        #expect(found.size == 10_000)
        #expect(found.permissions == 0o4640)
        #expect(found.uid == geteuid() && found.gid == getegid())
        #expect(found.links == 2)
        #expect(found.accessed == FileTime(seconds: 1_500_000_000, nanoseconds: 123))
        #expect(found.modified == FileTime(seconds: 1_400_000_000, nanoseconds: 987_654_321))
        #expect(found.changed != nil && (found.blocks ?? 0) * 512 >= 10_000)
        #expect(found.isPartial == false)
        let listed = try await entries("dir")
        #expect(listed.first { $0.name == "file" }?.attributes == found)
        #expect(try await store.lookup("dir")?.version == nil)
    }

    @Test("a link out of the root is shown as a link and never followed")
    func links() async throws {
        try scratch.write("inside/file", [1])
        try scratch.link("out", to: "/etc")
        try scratch.link("up", to: "../..")
        try scratch.link("passwd", to: "/etc/passwd")
        try scratch.link("in", to: "inside")
        for name: ByteString in ["out", "up", "passwd", "in"] {
            let found = try #require(try await store.lookup(name))
            #expect(found.kind == .symbolicLink, "\(name)")
            #expect(try await store.readLink(name).count == Int(found.size), "\(name)")
            #expect(await kind { _ = try await store.list(name).nextPage() } == .notDirectory, "\(name)")
            #expect(await kind { _ = try await store.openSource(name, expecting: nil) } == .invalid, "\(name)")
        }
        for path: ByteString in ["out/passwd", "up/etc/passwd", "in/file"] {
            #expect(await kind { _ = try await store.lookup(path) } == .invalid, "\(path)")
            #expect(await kind { try await store.read(path, range: 0..<1, expecting: nil, into: NoSink()) } == .invalid)
        }
    }

    @Test(
        "dots, empty parts and NULs name nothing",
        arguments: ["..", ".", "../x", "a/../a", "a//a", "/a", "a/", "a\0b", "/etc/passwd"])
    func impossiblePaths(path: String) async throws {
        try scratch.write("a", [1])
        #expect(try await store.lookup(ByteString(path)) == nil)
        #expect(await kind { _ = try await store.openSource(ByteString(path), expecting: nil) } == .notFound)
    }

    @Test("names that are not UTF-8 are kept byte for byte")
    func rawNames() async throws {
        let name = ByteString([0x66, 0xFF, 0xFE, 0x20, 0x80])
        try scratch.write(name, [1, 2, 3])
        #expect(try await entries("").map(\.name) == [name])
        #expect(try await store.lookup(name)?.size == 3)
        let sink = ContractSink(from: 0)
        try await store.read(name, range: 0..<3, expecting: nil, into: sink)
        #expect(sink.bytes == [1, 2, 3])
    }

    @Test("a pipe and a socket are shown as special, and opening them neither hangs nor succeeds")
    func specialFiles() async throws {
        mkfifo(scratch.path + "/pipe", 0o600)
        let listener = try PacketListener(path: scratch.path + "/socket")
        defer { listener.close() }
        for (name, type) in [("pipe", S_IFIFO), ("socket", S_IFSOCK)] {
            let found = try #require(try await store.lookup(ByteString(name)))
            #expect(found.kind == .special && (found.specialMode ?? 0) & S_IFMT == type)
            #expect(await kind { _ = try await store.openSource(ByteString(name), expecting: nil) } == .invalid)
        }
    }

    @Test("a listing of 2500 entries comes in pages, and entries that vanish meanwhile are left out")
    func vanishing() async throws {
        let names = (0..<2500).map { ByteString("file-\($0)") }
        for name in names { try scratch.write(name, []) }
        let whole = try await entries("")
        #expect(Set(whole.map(\.name)) == Set(names) && whole.count == names.count)
        let listing = store.list("")
        let first = try #require(try await listing.nextPage())
        #expect(first.entries.count == 1000)
        for name in names { try scratch.remove(name) }
        var rest: [DirectoryEntry] = []
        while let page = try await listing.nextPage() { rest += page.entries }
        #expect(rest.isEmpty)
    }

    @Test("every way to change a file changes its version")
    func versions() async throws {
        try scratch.write("file", Array(repeating: 1, count: 100))
        var seen: Set<ObjectVersion> = []
        func version() async throws -> ObjectVersion { try #require(try await store.lookup("file")?.version) }
        seen.insert(try await version())
        #expect(seen.contains(try await version()), "reading alone changes it")
        try scratch.overwrite("file", at: 100, [1])
        seen.insert(try await version())
        truncate(scratch.path + "/file", 50)
        seen.insert(try await version())
        try scratch.write("file", Array(repeating: 2, count: 50))
        seen.insert(try await version())
        #expect(seen.count == 4)
    }

    @Test("a file written in place keeps its identity, a replaced one does not")
    func fileIdentity() async throws {
        try scratch.write("file", [1])
        let first = try #require(try await store.lookup("file")?.version)
        try scratch.overwrite("file", at: 1, [2])
        let second = try #require(try await store.lookup("file")?.version)
        try scratch.write("file", [1, 2])
        let third = try #require(try await store.lookup("file")?.version)
        #expect(store.fileIdentity(of: first) == store.fileIdentity(of: second))
        #expect(store.fileIdentity(of: second) != store.fileIdentity(of: third))
    }

    @Test("a write during a read ends it with versionChanged before the next piece is delivered")
    func changedWhileReading() async throws {
        try scratch.write("file", Array(repeating: 1, count: 3 << 20))
        let version = try await store.lookup("file")?.version
        let path = scratch
        let sink = ContractSink(from: 0) { try path.overwrite("file", at: 3 << 20, [9]) }
        #expect(
            await kind {
                try await store.read("file", range: 0..<(3 << 20), expecting: version, into: sink)
            } == .versionChanged)
        #expect(sink.bytes.count == 1 << 20)
    }

    @Test("a file that shrinks during a read without a version is an error, not a short read")
    func shrunkWhileReading() async throws {
        try scratch.write("file", Array(repeating: 1, count: 3 << 20))
        let file = scratch.path + "/file"
        let sink = ContractSink(from: 0) { truncate(file, 1 << 20) }
        #expect(
            await kind {
                try await store.read("file", range: 0..<(3 << 20), expecting: nil, into: sink)
            } == .protocolViolation)
    }

    @Test("space is that of the file system")
    func space() async throws {
        var raw = statvfs()
        statvfs(scratch.path, &raw)
        let space = try #require(try await store.space())
        #expect(space.totalBytes == UInt64(raw.f_blocks) * UInt64(raw.f_frsize))
        #expect(space.files == UInt64(raw.f_files))
    }

    @Test("a root that cannot be used is refused with its reason")
    func badRoots() async throws {
        try scratch.write("file", [])
        #expect(await kind { _ = try LocalStore(root: scratch.path + "/none") } == .notFound)
        #expect(await kind { _ = try LocalStore(root: scratch.path + "/file") } == .notDirectory)
        #expect(await kind { _ = try LocalStore(root: "") } == .invalid)
    }

    @Test("a root without permission is refused with its reason")
    func forbiddenRoot() throws {
        scratch.makeDirectory("closed")
        let path = scratch.path + "/closed"
        chmod(path, 0)
        let outcome = OneShot<StoreError.Kind?>()
        startThread(named: "unprivileged") {
            // This thread alone loses root's right to read everything (setfsuid(2)); without root it needs none.
            typealias SetUser = @convention(c) (uid_t) -> CInt
            if let symbol = dlsym(nil, "setfsuid") { _ = unsafeBitCast(symbol, to: SetUser.self)(65534) }
            do throws(StoreError) {
                _ = try LocalStore(root: path)
                outcome.set(nil)
            } catch { outcome.set(error.kind) }
        }
        #expect(outcome.wait() == .some(.accessDenied))
    }

    @Test("the identity is the real path")
    func identity() throws {
        scratch.makeDirectory("real")
        try scratch.link("alias", to: "real")
        #expect(try LocalStore(root: scratch.path + "/alias/.").identity.text == "file://\(scratch.path)/real")
    }

    private func entries(_ path: ByteString) async throws -> [DirectoryEntry] {
        let listing = store.list(path)
        var all: [DirectoryEntry] = []
        while let page = try await listing.nextPage() {
            #expect(page.entries.count <= 1000 && page.unnameable == 0 && page.shadowed.isEmpty)
            all += page.entries
        }
        return all
    }
}

/// The kind of the store error that `body` throws; nil when it throws none.
func kind(_ body: () async throws -> Void) async -> StoreError.Kind? {
    do {
        try await body()
        return nil
    } catch { return (error as? StoreError)?.kind }
}

struct NoSink: ReadSink {
    func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) { Issue.record("bytes came") }
}
