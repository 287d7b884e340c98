import Coordination
import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem
@testable import FuseBridge

@Suite("Changing names and attributes through a kernel mount")
struct ChangeTests {
    @Test("makes, links, renames and removes names, and they are there at once")
    func names() async throws {
        let fixture = try await MountFixture.start(try FakeCoordinator(), readOnly: false)
        let result = try await fixture.shell(
            """
            cd $M; umask 027
            mkdir d && stat -c '%F %a' d && mkfifo p && test -p p && touch d/f && stat -c '%s %a' d/f
            ln -s d/f s && readlink s && ln d/f h && stat -c %h d/f && ls
            mv d/f g && test ! -e d/f && rmdir d && rm p s h && stat -c %h g && ls && sync -d . && sync g
            """)
        #expect(
            result.output == "directory 750\n0 640\nd/f\n2\nd\nh\np\ns\n1\ng\n", "\(result)")
    }

    @Test("renames without replacing, and exchanges")
    func renameFlags() async throws {
        let fixture = try await MountFixture.start(try FakeCoordinator(), readOnly: false)
        let result = try await fixture.python(
            """
            import ctypes, errno
            libc = ctypes.CDLL(None, use_errno=True)
            def rename(a, b, flags):
                if libc.renameat2(-100, (M + a).encode(), -100, (M + b).encode(), flags):
                    return errno.errorcode[ctypes.get_errno()]
                return "ok"
            for n, c in (("/a", "A"), ("/b", "B")): open(M + n, "w").write(c)
            print(rename("/a", "/b", 1), rename("/a", "/c", 1), rename("/c", "/b", 2), rename("/b", "/x", 2))
            print(open(M + "/b").read(), open(M + "/c").read())
            os.rename(M + "/b", M + "/c"); print(open(M + "/c").read(), os.listdir(M))
            """)
        #expect(result.output == "EEXIST ok ok ENOENT\nA B\nA ['c']\n", "\(result)")
    }

    @Test("every change carries who asks, and a number of its own")
    func callers() async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.writing.modes[FakeTree.root] = 0o777 }
        let fixture = try await MountFixture.start(coordinator, readOnly: false)
        let result = try await fixture.shell(
            "chmod 777 ${M%/*}; setpriv --reuid=1234 --regid=4321 --clear-groups bash -c 'mkdir $M/d; echo x > $M/f'; mkdir $M/e"
        )
        #expect(result.code == 0, "\(result)")
        let (callers, operations) = coordinator.log.withLock { log in
            (log.callers.map { "\($0.name) \($0.uid) \($0.gid)" }, log.changes.map(\.operation).filter { $0 != 0 })
        }
        #expect(callers == ["makeDirectory 1234 4321", "create 1234 4321", "makeDirectory 0 0"])
        #expect(!operations.isEmpty && Set(operations).count == operations.count, "\(operations)")
    }

    @Test(
        "the coordinator's refusal is what the caller gets",
        arguments: [
            ("create", "echo > $M/x"), ("makeDirectory", "mkdir $M/x"), ("makeSymbolicLink", "ln -s a $M/x"),
            ("makeHardLink", "ln $M/data $M/x"), ("makeNode", "mkfifo $M/x"), ("remove", "rm -f $M/data"),
            ("rename", "mv $M/data $M/x"), ("setAttributes", "chmod 600 $M/data"), ("open", "echo >> $M/data"),
            ("setExtendedAttribute", "python3 -c \"import os; os.setxattr('$M/data', 'user.a', b'')\""),
            ("removeExtendedAttribute", "python3 -c \"import os; os.removexattr('$M/data', 'user.a')\""),
            ("synchronizeDirectory", "python3 -c \"import os; os.fsync(os.open('$M', os.O_RDONLY))\""),
            ("setLock", "python3 -c \"import fcntl; fcntl.flock(open('$M/data'), fcntl.LOCK_EX)\""),
        ])
    func refusals(_ name: String, _ command: String) async throws {
        let coordinator = try FakeCoordinator()
        try coordinator.add("data", pattern(10), .whole)
        coordinator.script.withLock { $0.writing.failures[name] = .diskQuotaExceeded }
        let fixture = try await MountFixture.start(coordinator, readOnly: false)
        let result = try await fixture.shell(command)
        #expect(result.code != 0 && result.output.contains("Disk quota exceeded"), "\(result)")
    }

    @Test("a change whose answer was lost with the coordinator is sent again under its number, and done once")
    func doneOnce() async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.writing.unanswered = ["makeDirectory"] }
        let fixture = try await MountFixture.start(coordinator, readOnly: false)
        let child = try await Shell.start("mkdir $M/once", mountPoint: fixture.path)
        #expect(await eventually { coordinator.script.withLock { $0.tree.children[FakeTree.root]?["once"] != nil } })
        coordinator.stop()
        try coordinator.start()
        #expect(await child.wait() == 0, "\(child.output)")
        let (changes, clients) = coordinator.log.withLock {
            ($0.changes.filter { $0.name == "makeDirectory" }, $0.clients)
        }
        #expect(changes.count == 2 && Set(changes.map(\.operation)).count == 1, "\(changes)")
        #expect(clients.count == 1 && clients.first?.count == 16)
    }

    @Test("opens what somebody else created meanwhile, but not with O_EXCL")
    func createRace() async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.negativeMilliseconds = 3_600_000 }
        let fixture = try await MountFixture.start(coordinator, readOnly: false)
        #expect(try await fixture.shell("test ! -e $M/a && test ! -e $M/b").code == 0)
        try coordinator.add("a", Array("theirs".utf8), .whole)
        try coordinator.add("b", Array("theirs".utf8), .whole)
        let result = try await fixture.python(
            """
            f = os.open(M + "/a", os.O_RDWR | os.O_CREAT); print(os.read(f, 10))
            try: os.open(M + "/b", os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError: print("exists")
            """)
        #expect(result.output == "b'theirs'\nexists\n", "\(result)")
    }

    @Test("changes modes, owners and times")
    func attributes() async throws {
        let coordinator = try FakeCoordinator()
        try coordinator.add("data", pattern(10), .whole)
        let fixture = try await MountFixture.start(coordinator, readOnly: false)
        let result = try await fixture.shell(
            """
            cd $M; chmod 604 data; chown 11:22 data; stat -c '%a %u %g' data; chown :33 data; stat -c '%u %g' data
            touch -m -d @1234567890.5 data; stat -c %.2Y data; touch data; stat -c %Y data
            truncate -s 4 data; stat -c %s data; truncate -s 20 data; wc -c < data
            """)
        #expect(result.output == "604 11 22\n11 33\n1234567890.50\n1800000000\n4\n20\n", "\(result)")
    }

    @Test("a time that was set on an open file stays until it is written again")
    func timesOfOpenFiles() async throws {
        let fixture = try await MountFixture.start(try FakeCoordinator(), readOnly: false)
        let result = try await fixture.python(
            """
            f = os.open(M + "/f", os.O_RDWR | os.O_CREAT)
            os.write(f, b"abc")
            print(os.fstat(f).st_mtime > 1.7e9)
            os.utime(f, (1, 2)); print(os.fstat(f).st_mtime, os.fstat(f).st_size)
            os.write(f, b"def"); print(os.fstat(f).st_mtime > 1.7e9, os.fstat(f).st_size)
            """)
        #expect(result.output == "True\n2.0 3\nTrue 6\n", "\(result)")
    }

    @Test("keeps extended attributes, and its own read-only")
    func extendedAttributes() async throws {
        let coordinator = try FakeCoordinator()
        try coordinator.add("data", pattern(10), .whole)
        let fixture = try await MountFixture.start(coordinator, readOnly: false)
        let result = try await fixture.python(
            """
            import errno
            p = M + "/data"
            os.setxattr(p, "user.a", b"1"); os.setxattr(p, "user.b", b"x" * 60000)
            print([n for n in os.listxattr(p) if "larder" not in n], os.getxattr(p, "user.a"), len(os.getxattr(p, "user.b")))
            os.removexattr(p, "user.a")
            def error(call):
                try: call(); print("no error")
                except OSError as e: print(errno.errorcode[e.errno])
            error(lambda: os.getxattr(p, "user.a"))
            error(lambda: os.setxattr(p, "user.larder.url", b""))
            error(lambda: os.removexattr(p, "user.larder.url"))
            error(lambda: os.getxattr(p, "security.selinux"))
            error(lambda: os.setxattr(p, "trusted.x", b""))
            """)
        #expect(
            result.output == """
                ['user.a', 'user.b'] b'1' 60000
                ENODATA
                EPERM
                EPERM
                ENODATA
                ENOTSUP

                """, "\(result)")
        #expect(coordinator.log.withLock { $0.extendedAttributes }.allSatisfy { $0.hasPrefix("user.") })
    }

    @Test("asks for the kernel's own attributes when a store keeps them")
    func kernelAttributes() async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.writing.kernelAttributes = true }
        let (inode, _) = try coordinator.add("data", pattern(10), .whole)
        coordinator.script.withLock { $0.writing.attributes[inode] = ["trusted.x": "y"] }
        let fixture = try await MountFixture.start(coordinator, readOnly: false)
        let result = try await fixture.python("print(os.getxattr(M + '/data', 'trusted.x'))")
        #expect(result.output == "b'y'\n", "\(result)")
    }

    @Test("a write by somebody without privileges ends those of the file", arguments: [false, true])
    func killsPrivileges(_ isDirect: Bool) async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.writing.grant = .staged(direct: isDirect, room: 1 << 40) }
        let (inode, _) = try coordinator.add("tool", pattern(10), .whole)
        coordinator.script.withLock { $0.writing.modes[inode] = 0o6777 }
        let fixture = try await MountFixture.start(coordinator, readOnly: false)
        let result = try await fixture.shell(
            """
            chmod 777 ${M%/*}; stat -c %a $M/tool; printf x 1<>$M/tool; stat -c %a $M/tool
            setpriv --reuid=1234 --regid=4321 --clear-groups bash -c 'printf x 1<>$M/tool'; stat -c %a $M/tool
            """)
        #expect(result.output == "6777\n6777\n777\n", "\(result) \(coordinator.log.withLock { $0.changes })")
    }
}
