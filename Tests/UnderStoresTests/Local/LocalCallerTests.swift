import Glibc
import Platform
import Testing

@testable import UnderStores

/// What other users may do; the kernel decides. Only root can ask as another.
@Suite("LocalStore acts for its callers", .enabled(if: ThreadIdentity.isChangeable, "needs root"))
struct LocalCallerTests {
    let scratch: ScratchDirectory
    let store: LocalStore
    let alice = Caller(uid: 61001, gid: 62001)
    let bob = Caller(uid: 61002, gid: 62002)

    init() throws {
        scratch = try ScratchDirectory()
        chmod(scratch.path, 0o755)
        store = try LocalStore(root: scratch.path)
    }

    @Test("what a checked caller creates is its own, also where it could not write itself")
    func checkedCreation() async throws {
        let caller = checked(alice)
        try makeDirectory("private", mode: 0o700)
        let made = try await [
            store.create("private/f", flags: O_RDWR, mode: 0o4755, as: caller).1,
            store.makeDirectory("private/d", mode: 0o775, as: caller),
            store.makeNode("private/p", mode: S_IFIFO | 0o666, device: 0, as: caller),
            store.makeNode("private/c", mode: S_IFCHR | 0o600, device: makedev(1, 3), as: caller),
            store.makeLink("private/l", target: "f", as: caller),
        ]
        for attributes in made { #expect(attributes.uid == alice.uid && attributes.gid == alice.gid) }
        #expect(made[0].permissions == 0o4755 && made[1].permissions == 0o775 && made[2].permissions == 0o666)
    }

    @Test("an unchecked caller creates only where it may, and is not asked for what is its own")
    func uncheckedCreation() async throws {
        try makeDirectory("private", mode: 0o700)
        try makeDirectory("shared", mode: 0o777)
        #expect(await errno { _ = try await store.create("f", flags: O_RDWR, mode: 0o600, as: alice) } == EACCES)
        #expect(await errno { _ = try await store.makeDirectory("private/d", mode: 0o700, as: alice) } == EACCES)
        #expect(
            await errno { _ = try await store.open("private/x", flags: O_RDWR, identity: nil, as: alice) } == EACCES)
        let (_, made) = try await store.create("shared/f", flags: O_RDWR, mode: 0o600, as: alice)
        #expect(made.uid == alice.uid && made.gid == alice.gid && made.permissions == 0o600)
        #expect(await errno { _ = try await store.open("shared/f", flags: O_RDONLY, identity: nil, as: bob) } == EACCES)
        _ = try await store.open("shared/f", flags: O_RDWR, identity: nil, as: alice)
        let device = S_IFCHR | 0o600
        #expect(await errno { _ = try await store.makeNode("shared/c", mode: device, device: 259, as: alice) } == EPERM)
    }

    @Test("in a set-group-ID directory what is created has the directory's group", arguments: [true, false])
    func setGroupID(isChecked: Bool) async throws {
        try makeDirectory("group", mode: 0o777)
        chown(scratch.path + "/group", 0, 62009)
        chmod(scratch.path + "/group", 0o2777)
        var caller = alice
        caller.isChecked = isChecked
        let (_, file) = try await store.create("group/f", flags: O_RDWR, mode: 0o666, as: caller)
        #expect(file.uid == alice.uid && file.gid == 62009 && file.permissions == 0o666)
        let directory = try await store.makeDirectory("group/d", mode: 0o777, as: caller)
        #expect(directory.uid == alice.uid && directory.gid == 62009 && directory.permissions == 0o2777)
        let link = try await store.makeLink("group/l", target: "f", as: caller)
        #expect(link.gid == 62009)
        // A set-group-ID file of a group that the caller is not in: the kernel of a checked caller has decided already.
        let (_, program) = try await store.create("group/p", flags: O_RDWR, mode: 0o2775, as: caller)
        #expect(program.permissions == (isChecked ? 0o2775 : 0o775))
    }

    @Test("a default ACL decides the modes of what is created, not the umask")
    func defaultACL() async throws {
        try makeDirectory("acl", mode: 0o777)
        // posix_acl_xattr: version 2; user::rwx, user:61002:rwx, group::r-x, mask::rwx, other::---
        let entries: [(UInt16, UInt16, UInt32)] = [
            (1, 7, .max), (2, 7, 61002), (4, 5, .max), (0x10, 7, .max), (0x20, 0, .max),
        ]
        var acl = ByteString([2, 0, 0, 0])
        for (tag, permissions, id) in entries {
            withUnsafeBytes(of: (tag.littleEndian, permissions.littleEndian, id.littleEndian)) { acl.bytes += $0 }
        }
        let root = Caller(uid: 0, gid: 0, isChecked: true)
        try await store.setExtendedAttribute("acl", "system.posix_acl_default", acl, flags: 0, as: root)
        let (_, file) = try await store.create("acl/f", flags: O_RDWR, mode: 0o664, as: checked(alice))
        #expect(file.permissions == 0o660)
        #expect(file.uid == alice.uid)
        _ = try await store.open("acl/f", flags: O_RDWR, identity: nil, as: bob)
        #expect(
            try await store.makeDirectory("acl/d", mode: 0o777, as: checked(alice)).permissions == 0o770)
    }

    @Test("in a sticky directory only owners remove and rename, for callers that the kernel still checks")
    func sticky() async throws {
        try makeDirectory("sticky", mode: 0o1777)
        _ = try await store.create("sticky/alices", flags: O_RDWR, mode: 0o666, as: alice)
        _ = try await store.create("sticky/bobs", flags: O_RDWR, mode: 0o666, as: bob)
        #expect(await errno { try await store.remove("sticky/alices", as: bob) } == EPERM)
        #expect(await errno { try await store.rename("sticky/alices", to: "sticky/x", flags: 0, as: bob) } == EPERM)
        #expect(await errno { try await store.rename("sticky/bobs", to: "sticky/alices", flags: 0, as: bob) } == EPERM)
        try await store.remove("sticky/alices", as: alice)
        try await store.remove("sticky/bobs", as: checked(alice))
    }

    @Test("an unchecked caller changes only what is its own")
    func changes() async throws {
        try makeDirectory("shared", mode: 0o777)
        _ = try await store.create("shared/f", flags: O_RDWR, mode: 0o644, as: alice)
        var permissions = AttributeChange()
        permissions.permissions = 0o600
        #expect(await errno { _ = try await store.change("shared/f", permissions, as: bob) } == EPERM)
        #expect(try await store.change("shared/f", permissions, as: alice).permissions == 0o600)
        var owner = AttributeChange()
        owner.uid = bob.uid
        #expect(await errno { _ = try await store.change("shared/f", owner, as: alice) } == EPERM)
        var size = AttributeChange()
        size.size = 0
        #expect(await errno { _ = try await store.change("shared/f", size, as: bob) } == EACCES)
        var group = AttributeChange()
        group.gid = alice.gid
        #expect(try await store.change("shared/f", group, as: alice).gid == alice.gid)
        group.gid = bob.gid
        #expect(await errno { _ = try await store.change("shared/f", group, as: alice) } == EPERM)
    }

    @Test("chown clears set-id bits, and a mode given with it sets them again")
    func ownerAndMode() async throws {
        try scratch.write("f", [1])
        chmod(scratch.path + "/f", 0o6755)
        var change = AttributeChange()
        change.uid = alice.uid
        change.gid = alice.gid
        let root = Caller(uid: 0, gid: 0, isChecked: true)
        #expect(try await store.change("f", change, as: root).permissions == 0o755)
        change.permissions = 0o6755
        let changed = try await store.change("f", change, as: root)
        #expect(changed.permissions == 0o6755 && changed.uid == alice.uid && changed.gid == alice.gid)
        try scratch.link("l", to: "f")
        change.permissions = nil
        #expect(try await store.change("l", change, as: root).uid == alice.uid)
    }

    @Test("an unchecked caller has none of root's rights on extended attributes")
    func attributes() async throws {
        try makeDirectory("shared", mode: 0o777)
        _ = try await store.create("shared/f", flags: O_RDWR, mode: 0o644, as: alice)
        let root = Caller(uid: 0, gid: 0, isChecked: true)
        try await store.setExtendedAttribute("shared/f", "trusted.t", "1", flags: 0, as: root)
        try await store.setExtendedAttribute("shared/f", "user.u", "1", flags: 0, as: alice)
        #expect(
            await errno { try await store.setExtendedAttribute("shared/f", "trusted.t", "2", flags: 0, as: alice) }
                == EPERM)
        #expect(
            await errno { try await store.setExtendedAttribute("shared/f", "security.x", "2", flags: 0, as: alice) }
                == EPERM)
        #expect(await errno { _ = try await store.extendedAttribute("shared/f", "trusted.t", as: alice) } == ENODATA)
        #expect(
            await errno { try await store.setExtendedAttribute("shared/f", "user.u", "2", flags: 0, as: bob) } == EACCES
        )
        #expect(try await store.extendedAttributes("shared/f", as: checked(alice)) == ["user.u"])
        #expect(Set(try await store.extendedAttributes("shared/f", as: root)) == ["user.u", "trusted.t"])
        // Attributes of links need Linux 6.13; before, they are ENOTSUP.
        try scratch.link("l", to: "shared/f")
        let error = await errno {
            try await store.setExtendedAttribute("l", "trusted.l", "2", flags: 0, as: root)
        }
        let version = Machine.kernelVersion()
        #expect(error == ((version.major, version.minor) >= (6, 13) ? 0 : ENOTSUP))
        if error == 0 {
            #expect(try await store.extendedAttribute("l", "trusted.l", as: root) == "2")
            #expect(try await store.extendedAttributes("l", as: root) == ["trusted.l"])
            try await store.removeExtendedAttribute("l", "trusted.l", as: root)
            #expect(try await store.extendedAttributes("l", as: root).isEmpty)
        }
        #expect(Set(try await store.extendedAttributes("shared/f", as: root)) == ["user.u", "trusted.t"])
    }

    @Test("a thread has its own identity again after a call, also after one that failed")
    func restored() async throws {
        // One thread: the next call runs where the last one did.
        let store = try LocalStore(root: scratch.path, pool: WorkerPool(name: "one", threads: 1))
        let before = try await store.pool.run { try ThreadState() }
        for _ in 0..<50 {
            _ = await errno { _ = try await store.create("f", flags: O_RDWR, mode: 0o600, as: alice) }
            _ = await errno { _ = try await store.create("f", flags: O_RDWR, mode: 0o600, as: checked(bob)) }
            _ = await errno { try await store.remove("none", as: alice) }
        }
        #expect(try await store.pool.run { try ThreadState() } == before)
        #expect(try await store.lookup("f")?.uid == bob.uid)
    }

    @Test("callers on many threads at once never mix")
    func manyAtOnce() async throws {
        try makeDirectory("shared", mode: 0o777)
        let store = store
        try await withThrowingTaskGroup(of: (UInt32, UInt32?).self) { group in
            for index in UInt32(0)..<400 {
                group.addTask {
                    let caller = Caller(uid: 61000 + index % 7, gid: 62000, isChecked: index % 2 == 0)
                    let made = try await store.create(
                        ByteString("shared/\(index)"), flags: O_RDWR, mode: 0o600, as: caller)
                    return (caller.uid, made.1.uid)
                }
            }
            for try await (wanted, uid) in group { #expect(uid == wanted) }
        }
    }

    private func checked(_ caller: Caller) -> Caller { Caller(uid: caller.uid, gid: caller.gid, isChecked: true) }

    private func makeDirectory(_ name: String, mode: mode_t) throws {
        scratch.makeDirectory(ByteString(name))
        try #require(chmod(scratch.path + "/" + name, mode) == 0)
    }

    private func makedev(_ major: UInt64, _ minor: UInt64) -> UInt64 { major << 8 | minor }
}

/// What the kernel says of the identity of this thread.
private struct ThreadState: Equatable {
    let lines: [String]

    init() throws {
        let text = try #require(Machine.contents(of: "/proc/thread-self/status"))
        let kept = ["Uid:", "Gid:", "Groups:", "CapEff:", "CapPrm:", "CapInh:"]
        lines = text.split(separator: "\n").map(String.init).filter { line in kept.contains { line.hasPrefix($0) } }
    }
}
