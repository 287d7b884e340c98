import Coordination
import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem
@testable import FuseBridge

@Suite("A kernel mount")
struct MountTests {
    @Test(
        "lists, reads and follows links by every grant",
        arguments: [
            FakeGrant.passthrough, .whole, .mapped, .inline, .source, .readThrough,
        ])
    func readsEveryGrant(_ grant: FakeGrant) async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(grant == .inline ? 50_000 : 3_000_001)
        try coordinator.add("data", bytes, grant)
        let reference = try coordinator.reference(bytes)
        _ = coordinator.script.withLock { $0.tree.add("link", .link("data")) }
        let fixture = try await MountFixture.start(coordinator)
        let listed = try await fixture.shell("ls $M")
        #expect(listed.output == "data\nlink\n")
        let compared = try await fixture.shell(
            "cmp \(reference) $M/data && cmp \(reference) $M/link && readlink $M/link")
        #expect(compared.code == 0 && compared.output == "data\n", "\(compared)")
        let middle = try await fixture.shell(
            "cmp -i 12345 -n 777 \(reference) $M/data && tail -c 7 $M/data | cmp - <(tail -c 7 \(reference))")
        #expect(middle.code == 0, "\(middle)")
    }

    @Test("serves memory maps of partly cached and of passthrough files", arguments: [FakeGrant.mapped, .passthrough])
    func mapsFiles(_ grant: FakeGrant) async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(1_234_567)
        let (inode, file) = try coordinator.add("data", bytes, grant)
        try file.fill(100_000..<200_000)
        let reference = try coordinator.reference(bytes)
        let fixture = try await MountFixture.start(coordinator)
        let result = try await fixture.python(
            """
            import mmap
            with open(M + "/data", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
                print(m[-5:] == open("\(reference)", "rb").read()[-5:], m[:] == open("\(reference)", "rb").read())
            """)
        #expect(result.output == "True True\n")
        #expect(coordinator.log.withLock { $0.opens[inode] } == 1)
    }

    @Test(
        "keeps no pages of the first pass over a long object, and those of a partly cached one, with the same bytes by read and by map",
        arguments: [true, false])
    func firstPass(_ isFirst: Bool) async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(9 << 20)
        let (_, file) = try coordinator.add("data", bytes, .mapped, blockSize: 128 << 10)
        if !isFirst { try file.fill(1_000_000..<1_000_001) }
        let reference = try coordinator.reference(bytes)
        let fixture = try await MountFixture.start(coordinator)
        let result = try await fixture.python(
            """
            import ctypes, mmap
            def pages(fd):  # cachestat(2), Linux 6.5
                answer = (ctypes.c_uint64 * 5)()
                whole = (ctypes.c_uint64 * 2)(0, 0)
                assert ctypes.CDLL(None, use_errno=True).syscall(451, fd, whole, answer, 0) == 0
                return answer[0]
            expected = open("\(reference)", "rb").read()
            f = os.open(M + "/data", os.O_RDONLY)
            first = b"".join(os.pread(f, 4096, place) for place in range(0, 1 << 20, 4096))
            print(first == expected[:1 << 20], os.pread(f, 1 << 20, 3_000_001) == expected[3_000_001:][:1 << 20])
            kept = pages(f)
            for kind in mmap.MAP_SHARED, mmap.MAP_PRIVATE:
                with mmap.mmap(f, 0, flags=kind, prot=mmap.PROT_READ) as m:
                    print(m[2_000_000:2_500_000] == expected[2_000_000:2_500_000], m[-5:] == expected[-5:])
            other = os.open(M + "/data", os.O_RDONLY)
            print(os.pread(f, 1 << 20, 8 << 20) == expected[8 << 20:], os.pread(other, 5, 0) == expected[:5], kept > 0)
            """)
        #expect(
            result.output == "True True\nTrue True\nTrue True\nTrue True \(isFirst ? "False" : "True")\n", "\(result)")
    }

    @Test("opens a passthrough file several times at once with one backing id")
    func sharesPassthrough() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(2_000_000)
        let (inode, _) = try coordinator.add("data", bytes, .passthrough)
        let reference = try coordinator.reference(bytes)
        let fixture = try await MountFixture.start(coordinator)
        #expect(fixture.mount.usesPassthrough, "this kernel should offer FUSE passthrough")
        let result = try await fixture.shell(
            """
            exec 3<$M/data 4<$M/data
            python3 -c 'import os; print(os.getxattr("'$M'/data", "user.larder.mode").decode())'
            for i in 1 2 3 4; do cmp \(reference) $M/data || echo differs & done; wait
            cmp \(reference) - <&3 && cmp \(reference) - <&4
            """)
        #expect(result.code == 0 && result.output == "passthrough\n", "\(result)")
        #expect(coordinator.log.withLock { $0.opens[inode] } == 1)
        #expect(coordinator.log.withLock { $0.fetches.isEmpty })
    }

    @Test("gives the lease back with the last close, and asks for a new one at the next open")
    func releasesLeases() async throws {
        let coordinator = try FakeCoordinator()
        let (inode, _) = try coordinator.add("data", pattern(300_000), .mapped)
        let fixture = try await MountFixture.start(coordinator)
        for round in 1...3 {
            let result = try await fixture.shell("exec 3<$M/data 4<$M/data; cat $M/data | wc -c")
            #expect(result.output == "300000\n")
            // RELEASE comes after close(2) has returned.
            #expect(await eventually { coordinator.log.withLock { $0.releases } == round })
            #expect(coordinator.log.withLock { $0.opens[inode] } == round)
        }
    }

    @Test("looks a name up again when its inode has been superseded")
    func survivesReplacement() async throws {
        let coordinator = try FakeCoordinator()
        let old = try coordinator.add("data", pattern(10_000, seed: 1), .whole).inode
        let fixture = try await MountFixture.start(coordinator)
        #expect(try await fixture.shell("stat -c %i $M/data").output == "\(old)\n")
        let bytes = pattern(20_000, seed: 2)
        let new = try coordinator.add("data", bytes, .whole).inode
        let reference = try coordinator.reference(bytes)
        // The kernel still believes the old entry for a minute; ESTALE at the open makes it ask.
        let result = try await fixture.shell("cmp \(reference) $M/data && stat -c %i $M/data")
        #expect(result.code == 0 && result.output == "\(new)\n", "\(result)")
    }

    @Test("keeps an open file readable, and its attributes, after its inode was superseded")
    func openFileSurvivesReplacement() async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.ttlMilliseconds = 0 }
        let bytes = pattern(200_000, seed: 1)
        try coordinator.add("data", bytes, .mapped)
        let reference = try coordinator.reference(bytes)
        let fixture = try await MountFixture.start(coordinator)
        let gate = coordinator.directory + "/gate"
        mkfifo(gate, 0o600)
        let reader = try await Shell.start(
            """
            exec 3<$M/data; echo open >&2; read x < \(gate)
            stat -L -c %s /proc/self/fd/3 && cmp \(reference) - <&3 && echo same
            """,
            mountPoint: fixture.path)
        #expect(await eventually { reader.output.contains("open") })
        try coordinator.add("data", pattern(7, seed: 2), .mapped)
        _ = try await fixture.shell("echo go > \(gate)")
        #expect(await reader.wait() == 0)
        #expect(reader.output == "open\n200000\nsame\n")
    }

    @Test("remembers absent names, and forgets them when told")
    func remembersAbsence() async throws {
        let coordinator = try FakeCoordinator()
        let fixture = try await MountFixture.start(coordinator)
        for _ in 1...3 { #expect(try await fixture.shell("test -e $M/absent").code == 1) }
        #expect(coordinator.log.withLock { $0.lookups["absent"] } == 1)
        try coordinator.add("absent", pattern(10), .inline)
        var invalidate = WireInvalidate()
        var name = WireInvalidate.Name()
        name.parent = FakeTree.root
        name.name = ByteString("absent").data
        invalidate.names = [name]
        coordinator.notify(.invalidate(invalidate))
        #expect(
            try await fixture.shell("until test -e $M/absent; do sleep 0.01; done; cat $M/absent | wc -c").output
                == "10\n")
    }

    @Test("says when the kernel has forgotten, and then it has")
    func acknowledgesInvalidations() async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.ttlMilliseconds = 3_600_000 }
        let fixture = try await MountFixture.start(coordinator)
        for round in UInt64(1)...20 {
            let names = (0..<200).map { ByteString("name-\(round)-\($0)") }
            #expect(
                try await fixture.shell("for i in {0..199}; do test ! -e $M/name-\(round)-$i || exit 1; done").code == 0
            )
            var invalidate = WireInvalidate()
            for name in names {
                try coordinator.add(name, pattern(round == 20 ? 3 : 1), .inline)
                var entry = WireInvalidate.Name()
                entry.parent = FakeTree.root
                entry.name = name.data
                invalidate.names.append(entry)
            }
            coordinator.notify(.invalidate(invalidate))
            // The number is one that the mount has used for requests of its own.
            coordinator.request(.invalidate(.init()), id: round)
            #expect(await eventually { coordinator.log.withLock { $0.acknowledged.last == round } })
            #expect(
                try await fixture.shell("for i in {0..199}; do test -e $M/name-\(round)-$i || exit 1; done").code == 0)
        }
        #expect(coordinator.log.withLock { $0.acknowledged } == Array(1...20))
    }

    @Test("asks about an absent name every time when it may not be remembered")
    func doesNotRememberAbsence() async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.negativeMilliseconds = 0 }
        let fixture = try await MountFixture.start(coordinator)
        for _ in 1...3 { #expect(try await fixture.shell("test -e $M/absent").code == 1) }
        #expect(coordinator.log.withLock { $0.lookups["absent"] ?? 0 } >= 3)
    }

    @Test("drops the kernel's pages when told that an inode has changed")
    func invalidatesInodes() async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.ttlMilliseconds = 3_600_000 }
        let (inode, _) = try coordinator.add("data", pattern(5000), .whole)
        let fixture = try await MountFixture.start(coordinator)
        _ = try await fixture.shell("cat $M/data >/dev/null; stat $M/data")
        coordinator.script.withLock { script in script.tree.nodes[inode]?.isSuperseded = true }
        #expect(try await fixture.shell("stat $M/data >/dev/null").code == 0, "still remembered")
        var invalidate = WireInvalidate()
        invalidate.inodes = [inode]
        coordinator.notify(.invalidate(invalidate))
        #expect(try await fixture.shell("while stat $M/data >/dev/null 2>&1; do sleep 0.01; done").code == 0)
    }

    @Test("answers for its extended attributes, which it does not list, and for no others")
    func extendedAttributes() async throws {
        let coordinator = try FakeCoordinator()
        let inode = try coordinator.add("data", pattern(5000), .whole).inode
        let fixture = try await MountFixture.start(coordinator)
        let script = """
            import os, errno
            p = M + "/data"
            print(sorted(os.listxattr(p)))
            print(os.getxattr(p, "user.larder.version").decode())
            print(os.getxattr(p, "user.larder.coordinator").decode())
            print(os.getxattr(p, "user.larder.mode").decode())
            f = open(p)
            print(os.getxattr(p, "user.larder.mode").decode())
            for name in ("user.other", "security.capability"):
                try: os.getxattr(p, name)
                except OSError as e: print(errno.errorcode[e.errno])
            """
        let result = try await fixture.python(script)
        #expect(
            result.output == """
                []
                user.larder.version of \(inode)
                \(coordinator.socketPath)
                closed
                whole
                ENODATA
                ENODATA

                """)
    }

    @Test("refuses every change with EROFS")
    func isReadOnly() async throws {
        let coordinator = try FakeCoordinator()
        try coordinator.add("data", pattern(10), .inline)
        let fixture = try await MountFixture.start(coordinator)
        for command in [
            "echo x > $M/data", "echo x >> $M/data", "touch $M/new", "mkdir $M/new", "rm -f $M/data", "mv $M/data $M/b",
            "ln -s a $M/b", "ln $M/data $M/b", "chmod 600 $M/data", "truncate -s 3 $M/data",
        ] {
            let result = try await fixture.shell(command)
            #expect(result.code != 0 && result.output.contains("Read-only file system"), "\(command): \(result)")
        }
    }

    @Test("answers statfs with the coordinator's space")
    func statfs() async throws {
        let fixture = try await MountFixture.start(try FakeCoordinator())
        #expect(
            try await fixture.shell("stat -f -c '%S %b %f %c %l' $M").output == "4096 268435456 134217728 12345 255\n")
    }

    @Test("is unmounted lazily while a file is open, which stays readable to its end")
    func unmountsWhileOpen() async throws {
        let coordinator = try FakeCoordinator()
        let bytes = pattern(500_000)
        try coordinator.add("data", bytes, .mapped)
        let reference = try coordinator.reference(bytes)
        let fixture = try await MountFixture.start(coordinator)
        let gate = coordinator.directory + "/gate"
        mkfifo(gate, 0o600)
        let reader = try await Shell.start(
            "exec 3<$M/data; echo open; read x < \(gate); cmp \(reference) - <&3 && echo same", mountPoint: fixture.path
        )
        #expect(await eventually { reader.output.contains("open") })
        #expect(throws: MountError.self) { try fixture.mount.unmount(lazily: false) }
        try fixture.mount.unmount(lazily: true)
        #expect(MountPoints.list().allSatisfy { $0.mountPoint != fixture.mount.mountPoint })
        _ = try await fixture.shell("echo go > \(gate)")
        #expect(await reader.wait() == 0)
        #expect(reader.output == "open\nsame\n")
        try await blocking { fixture.mount.waitUntilUnmounted() }
    }

    @Test("ends with umount(8), and can be made again")
    func remounts() async throws {
        let coordinator = try FakeCoordinator()
        try coordinator.add("data", pattern(10), .inline)
        for _ in 1...3 {
            let fixture = try await MountFixture.start(coordinator)
            #expect(
                MountPoints.list().contains {
                    $0.mountPoint == fixture.mount.mountPoint && $0.source == "fake://tree,a b"
                })
            #expect(try await fixture.shell("cat $M/data | wc -c; umount $M").output == "10\n")
            try await blocking { fixture.mount.waitUntilUnmounted() }
        }
    }
}
