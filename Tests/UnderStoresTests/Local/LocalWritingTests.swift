import Foundation
import Glibc
import Platform
import Testing

@testable import UnderStores

@Suite("LocalStore writes")
struct LocalWritingTests {
    let scratch: ScratchDirectory
    let store: LocalStore
    let caller = Caller(uid: geteuid(), gid: getegid())

    init() throws {
        scratch = try ScratchDirectory()
        store = try LocalStore(root: scratch.path)
    }

    @Test("as the contract says, for a checked and an unchecked caller", arguments: [true, false])
    func contract(isChecked: Bool) async throws {
        var caller = caller
        caller.isChecked = isChecked
        let results = await StoreContract(store).runFileWriting(as: caller)
        #expect(results.map(\.name) == StoreContract.fileWritingCheckNames)
        for result in results { #expect(result.outcome == .passed, "\(result.name)") }
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).isEmpty)
    }

    @Test("a contract that is stopped leaves nothing, wherever it is", arguments: 0..<4)
    func stoppedContract(after count: Int) async throws {
        let done = Lock(0)
        let results = await StoreContract(store).runFileWriting(as: caller) {
            done.withLock { $0 >= count }
        } report: { _ in
            done.withLock { $0 += 1 }
        }
        #expect(results.count == count)
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).isEmpty)
    }

    @Test("a link planted as a directory on the way is never passed, whatever the call")
    func plantedParent() async throws {
        let outside = try ScratchDirectory()
        try outside.write("victim", [1, 2, 3])
        outside.makeDirectory("empty")
        try scratch.link("out", to: ByteString(outside.path))
        try scratch.write("mine", [1])
        let calls: [(String, @Sendable () async throws -> Void)] = [
            (
                "open",
                { [store, caller] in _ = try await store.open("out/victim", flags: O_RDWR, identity: nil, as: caller) }
            ),
            (
                "create",
                { [store, caller] in _ = try await store.create("out/new", flags: O_RDWR, mode: 0o600, as: caller) }
            ),
            ("mkdir", { [store, caller] in _ = try await store.makeDirectory("out/new", mode: 0o700, as: caller) }),
            (
                "mknod",
                { [store, caller] in
                    _ = try await store.makeNode("out/new", mode: S_IFIFO | 0o600, device: 0, as: caller)
                }
            ),
            ("symlink", { [store, caller] in _ = try await store.makeLink("out/new", target: "x", as: caller) }),
            ("link from", { [store, caller] in _ = try await store.makeHardLink("new", to: "out/victim", as: caller) }),
            ("link to", { [store, caller] in _ = try await store.makeHardLink("out/new", to: "mine", as: caller) }),
            ("unlink", { [store, caller] in try await store.remove("out/victim", as: caller) }),
            ("rmdir", { [store, caller] in try await store.removeDirectory("out/empty", as: caller) }),
            (
                "rename from",
                { [store, caller] in try await store.rename("out/victim", to: "new", flags: 0, as: caller) }
            ),
            (
                "rename to",
                { [store, caller] in try await store.rename("mine", to: "out/victim", flags: 0, as: caller) }
            ),
            ("change", { [store, caller] in _ = try await store.change("out/victim", Self.allChanges, as: caller) }),
            (
                "getxattr",
                { [store, caller] in _ = try await store.extendedAttribute("out/victim", "user.a", as: caller) }
            ),
            ("listxattr", { [store, caller] in _ = try await store.extendedAttributes("out/victim", as: caller) }),
            (
                "setxattr",
                { [store, caller] in
                    try await store.setExtendedAttribute("out/victim", "user.a", "b", flags: 0, as: caller)
                }
            ),
            (
                "removexattr",
                { [store, caller] in try await store.removeExtendedAttribute("out/victim", "user.a", as: caller) }
            ),
            ("fsync", { [store] in try await store.synchronizeDirectory("out/empty") }),
        ]
        let before = try listing(outside)
        for (name, call) in calls { #expect([ELOOP, ENOTDIR].contains(await errno(call)), "\(name)") }
        #expect(try listing(outside) == before)
    }

    @Test("a link at the end of a path is itself what is changed, and nothing behind it")
    func plantedName() async throws {
        let outside = try ScratchDirectory()
        try outside.write("victim", [1, 2, 3])
        outside.makeDirectory("directory")
        try scratch.link("file", to: ByteString(outside.path + "/victim"))
        try scratch.link("directory", to: ByteString(outside.path + "/directory"))
        let before = try listing(outside)
        #expect(
            await errno { _ = try await store.open("file", flags: O_RDWR | O_TRUNC, identity: nil, as: caller) }
                == ELOOP)
        #expect(await errno { _ = try await store.create("file", flags: O_RDWR, mode: 0o600, as: caller) } == EEXIST)
        #expect(await errno { _ = try await store.makeDirectory("directory", mode: 0o700, as: caller) } == EEXIST)
        #expect(await errno { try await store.removeDirectory("directory", as: caller) } == ENOTDIR)
        #expect(await errno { try await store.synchronizeDirectory("directory") } == ENOTDIR)
        #expect(await errno { _ = try await store.change("file", Self.truncation, as: caller) } == EINVAL)
        var permissions = AttributeChange()
        permissions.permissions = 0o777
        #expect(await errno { _ = try await store.change("file", permissions, as: caller) } == EOPNOTSUPP)
        var times = AttributeChange()
        times.modified = .at(FileTime(seconds: 5))
        #expect(try await store.change("file", times, as: caller).modified == FileTime(seconds: 5))
        #expect(try await store.lookup("file")?.modified == FileTime(seconds: 5))
        // The kernel has no user.* attributes on links.
        let setting = await errno { try await store.setExtendedAttribute("file", "user.a", "b", flags: 0, as: caller) }
        #expect(setting == EPERM || setting == ENOTSUP)
        _ = try await store.makeHardLink("second", to: "file", as: caller)
        #expect(try await store.lookup("second")?.kind == .symbolicLink)
        try await store.rename("file", to: "directory", flags: 0, as: caller)
        try await store.remove("directory", as: caller)
        #expect(try listing(outside) == before)
    }

    @Test(
        "dots, empty parts and NULs are ENOENT and change nothing",
        arguments: ["..", ".", "a/..", "a//b", "/b", "b/", "a/../b", "b\0c"])
    func impossibleNames(path: String) async throws {
        scratch.makeDirectory("a")
        let before = try listing(scratch)
        let path = ByteString(path)
        #expect(await errno { _ = try await store.create(path, flags: O_RDWR, mode: 0o600, as: caller) } == ENOENT)
        #expect(await errno { _ = try await store.makeDirectory(path, mode: 0o700, as: caller) } == ENOENT)
        #expect(await errno { try await store.remove(path, as: caller) } == ENOENT)
        #expect(await errno { try await store.rename("a", to: path, flags: 0, as: caller) } == ENOENT)
        #expect(await errno { _ = try await store.change(path, Self.truncation, as: caller) } == ENOENT)
        #expect(try listing(scratch) == before)
    }

    @Test("the root itself is neither made, removed nor renamed, but can be changed")
    func root() async throws {
        #expect(await errno { _ = try await store.create("", flags: O_RDWR, mode: 0o600, as: caller) } == EEXIST)
        #expect(await errno { try await store.remove("", as: caller) } == EISDIR)
        #expect(await errno { try await store.removeDirectory("", as: caller) } == EBUSY)
        #expect(await errno { try await store.rename("", to: "x", flags: 0, as: caller) } == EBUSY)
        #expect(await errno { _ = try await store.makeHardLink("x", to: "", as: caller) } == EPERM)
        var change = AttributeChange()
        change.permissions = 0o711
        #expect(try await store.change("", change, as: caller).permissions == 0o711)
        try await store.setExtendedAttribute("", "user.a", "1", flags: 0, as: caller)
        #expect(try await store.extendedAttribute("", "user.a", as: caller) == "1")
        try await store.synchronizeDirectory("")
    }

    @Test("a path longer than PATH_MAX works, as it does for a program that went there step by step")
    func deepPath() async throws {
        var path: ByteString = ""
        let part = ByteString([UInt8](repeating: UInt8(ascii: "d"), count: 250))
        while path.count < 9000 {
            path = path.appending(component: part)
            _ = try await store.makeDirectory(path, mode: 0o700, as: caller)
        }
        let file = path.appending(component: "file")
        _ = try await store.create(file, flags: O_RDWR, mode: 0o600, as: caller)
        #expect(try await store.change(file, Self.truncation, as: caller).size == 7)
        #expect(try await store.lookup(file)?.size == 7)
        try await store.rename(file, to: "up", flags: 0, as: caller)
        #expect(try await store.lookup("up")?.size == 7)
    }

    @Test("modes are those asked for, whatever the umask of this process")
    func modes() async throws {
        // The umask is that of the test process, usually 022.
        let caller = caller
        #expect(try await store.create("f", flags: O_RDWR, mode: 0o100666, as: caller).1.permissions == 0o666)
        #expect(try await store.makeDirectory("d", mode: 0o1777, as: caller).permissions == 0o1777)
        #expect(try await store.makeNode("p", mode: S_IFIFO | 0o626, device: 0, as: caller).permissions == 0o626)
        #expect(try await store.create("0", flags: O_RDWR, mode: 0, as: caller).1.permissions == 0)
    }

    @Test("an open file without a name is changed like any other")
    func unlinked() async throws {
        let (file, _) = try await store.create("gone", flags: O_RDWR, mode: 0o400, as: caller)
        try await store.remove("gone", as: caller)
        var change = Self.truncation
        change.permissions = 0o611
        change.accessed = .at(FileTime(seconds: 9, nanoseconds: 8))
        let changed = try await store.change(file, change, as: caller)
        #expect(changed.links == 0 && changed.size == 7 && changed.permissions == 0o611)
        #expect(changed.accessed == FileTime(seconds: 9, nanoseconds: 8))
        let reader = try file.reopen(O_RDONLY)
        #expect(try await store.change(reader, Self.truncation, as: caller).size == 7)
    }

    @Test("truncation has the errors of truncate(2)")
    func truncation() async throws {
        scratch.makeDirectory("d")
        try scratch.write("f", [1, 2, 3])
        mkfifo(scratch.path + "/p", 0o600)
        #expect(await errno { _ = try await store.change("d", Self.truncation, as: caller) } == EISDIR)
        #expect(await errno { _ = try await store.change("p", Self.truncation, as: caller) } == EINVAL)
        var huge = AttributeChange()
        huge.size = .max
        #expect(await errno { _ = try await store.change("f", huge, as: caller) } == EINVAL)
        huge.size = UInt64(Int64.max)
        #expect(await errno { _ = try await store.change("f", huge, as: caller) } == EFBIG)
    }

    @Test("opening is for regular files, and O_TRUNC works with any access")
    func opening() async throws {
        scratch.makeDirectory("d")
        mkfifo(scratch.path + "/p", 0o600)
        try scratch.write("f", [1, 2, 3])
        #expect(await errno { _ = try await store.open("d", flags: O_RDONLY, identity: nil, as: caller) } == EISDIR)
        #expect(await errno { _ = try await store.open("p", flags: O_RDWR, identity: nil, as: caller) } == ENXIO)
        #expect(await errno { _ = try await store.open("f/x", flags: O_RDWR, identity: nil, as: caller) } == ENOTDIR)
        let appending = try await store.open("f", flags: O_WRONLY | O_APPEND, identity: nil, as: caller)
        #expect(Glibc.write(appending.raw, "x", 1) == 1)
        #expect(try await store.lookup("f")?.size == 4)
        _ = try await store.open("f", flags: O_RDONLY | O_TRUNC, identity: nil, as: caller)
        #expect(try await store.lookup("f")?.size == 0)
    }

    @Test("RENAME_EXCHANGE swaps two names of any kind, and unknown flags are EINVAL")
    func exchange() async throws {
        try scratch.write("file", [1])
        scratch.makeDirectory("directory")
        try await store.rename("file", to: "directory", flags: 2, as: caller)
        #expect(try await store.lookup("file")?.kind == .directory)
        #expect(try await store.lookup("directory")?.kind == .file)
        #expect(await errno { try await store.rename("file", to: "none", flags: 2, as: caller) } == ENOENT)
        #expect(await errno { try await store.rename("file", to: "directory", flags: 3, as: caller) } == EINVAL)
        #expect(await errno { try await store.rename("file", to: "new", flags: 4, as: caller) } == EINVAL)
    }

    @Test("extended attributes are set, replaced, listed and removed; Larder's own are neither shown nor changed")
    func extendedAttributes() async throws {
        try scratch.write("f", [1])
        let path = scratch.path + "/f"
        #expect(await errno { _ = try await store.extendedAttribute("f", "user.a", as: caller) } == ENODATA)
        #expect(
            await errno { try await store.setExtendedAttribute("f", "user.a", "1", flags: 2, as: caller) } == ENODATA)
        try await store.setExtendedAttribute("f", "user.a", "1", flags: 1, as: caller)
        #expect(
            await errno { try await store.setExtendedAttribute("f", "user.a", "2", flags: 1, as: caller) } == EEXIST)
        let value = ByteString([0, 255, 10, 0])
        try await store.setExtendedAttribute("f", "user.a", value, flags: 0, as: caller)
        #expect(try await store.extendedAttribute("f", "user.a", as: caller) == value)
        try await store.setExtendedAttribute("f", "user.empty", "", flags: 0, as: caller)
        #expect(try await store.extendedAttribute("f", "user.empty", as: caller) == "")
        try ExtendedAttribute.set("user.larder.secret", to: "x", of: path)
        #expect(Set(try await store.extendedAttributes("f", as: caller)) == ["user.a", "user.empty"])
        #expect(await errno { _ = try await store.extendedAttribute("f", "user.larder.secret", as: caller) } == ENODATA)
        #expect(
            await errno { try await store.setExtendedAttribute("f", "user.larder.x", "", flags: 0, as: caller) }
                == EPERM)
        #expect(await errno { try await store.removeExtendedAttribute("f", "user.larder.secret", as: caller) } == EPERM)
        try await store.removeExtendedAttribute("f", "user.a", as: caller)
        #expect(await errno { try await store.removeExtendedAttribute("f", "user.a", as: caller) } == ENODATA)
        #expect(
            await errno { try await store.setExtendedAttribute("f", "nonsense", "", flags: 0, as: caller) } == ENOTSUP)
    }

    @Test("a failure is one line that names the file")
    func message() async throws {
        do {
            try await store.remove("no such name", as: caller)
            Issue.record("it succeeded")
        } catch {
            #expect("\(error)" == "cannot remove \(scratch.path)/no such name: No such file or directory")
        }
    }

    @Test("a link that comes and goes on the way never lets a call out of the directory")
    func race() async throws {
        let outside = try ScratchDirectory()
        scratch.makeDirectory("real")
        try scratch.link("link", to: ByteString(outside.path))
        let stop = OneShot<Bool>()
        let ended = OneShot<Bool>()
        let directory = try Descriptor.open(scratch.path, O_RDONLY | O_DIRECTORY)
        startThread(named: "swapper") {
            while stop.wait(timeout: .zero) == nil {
                try? directory.rename("real", to: directory, "link", flags: Descriptor.renameExchange)
            }
            ended.set(true)
        }
        var made = 0
        for index in 0..<2000 {
            let path = ByteString("real/file-\(index)")
            let error = await errno {
                _ = try await store.create(path, flags: O_RDWR, mode: 0o600, as: caller)
            }
            #expect(error == 0 || error == ELOOP || error == ENOTDIR)
            if error == 0 { made += 1 }
        }
        stop.set(true)
        _ = await WorkerPool(name: "wait", threads: 1).run { ended.wait() }
        #expect(try listing(outside).isEmpty)
        #expect(made > 0)
    }

    private static var truncation: AttributeChange {
        var change = AttributeChange()
        change.size = 7
        return change
    }

    private static var allChanges: AttributeChange {
        var change = truncation
        change.permissions = 0o777
        change.modified = .now
        return change
    }

    /// Every name with what shows a change of it.
    private func listing(_ directory: ScratchDirectory) throws -> [String: String] {
        let reader = DirectoryReader(try Descriptor.open(directory.path, O_RDONLY | O_DIRECTORY))
        var found: [String: String] = [:]
        while let name = try reader.next() {
            let status = try reader.directory.status(of: name)
            found["\(name)"] = "\(status.inode) \(status.mode) \(status.size) \(status.changed) \(status.links)"
        }
        return found
    }
}

/// The errno of the failure that `body` throws; 0 when it throws none, -1 when it throws something else.
func errno(_ body: () async throws -> Void) async -> CInt {
    do {
        try await body()
        return 0
    } catch { return (error as? FileFailure)?.errorNumber ?? -1 }
}
