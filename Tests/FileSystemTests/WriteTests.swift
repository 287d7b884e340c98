import Coordination
import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem
@testable import FuseBridge

@Suite("Writing through a kernel mount")
struct WriteTests {
    static let grants: [(name: String, grant: FakeWriteGrant)] = [
        ("staged", .staged(direct: false, room: 1 << 40)), ("direct", .staged(direct: true, room: 1 << 40)),
        ("source", .source), ("passthrough", .passthrough),
        ("staged passthrough", .stagedBacking),
    ]

    private func start(_ grant: FakeWriteGrant = .staged(direct: false, room: 1 << 40)) async throws -> MountFixture {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.writing.grant = grant }
        return try await MountFixture.start(coordinator, readOnly: false)
    }

    private func expect(
        _ fixture: MountFixture, _ program: String, prints output: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let result = try await fixture.python(program)
        #expect(result.code == 0 && result.output == output, "\(result)", sourceLocation: sourceLocation)
    }

    @Test("what was written is read back at once, at its place, by every grant", arguments: grants)
    func readsBack(_ name: String, _ grant: FakeWriteGrant) async throws {
        let fixture = try await start(grant)
        try await expect(
            fixture,
            """
            p = M + "/new"
            f = os.open(p, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
            os.pwrite(f, b"b" * 300000, 1000000)
            os.pwrite(f, b"a" * 10, 5)
            print(os.fstat(f).st_size, os.stat(p).st_size, oct(os.stat(p).st_mode))
            print(os.pread(f, 20, 0) == b"\\0" * 5 + b"a" * 10 + b"\\0" * 5, os.pread(f, 10, 1299995) == b"b" * 5)
            g = os.open(p, os.O_RDONLY)
            print(os.pread(g, 300000, 1000000) == b"b" * 300000)
            os.pwrite(f, b"c", 1000000)
            print(os.pread(g, 2, 1000000))
            """, prints: "1300000 1300000 0o100640\nTrue True\nTrue\nb'cb'\n")
    }

    @Test("bytes are committed when close(2) returns, and the next open reads them")
    func commitsAtClose() async throws {
        let fixture = try await start()
        let bytes = pattern(5_000_001)
        let reference = try fixture.coordinator.reference(bytes)
        let result = try await fixture.shell("cp \(reference) $M/new && cmp \(reference) $M/new")
        #expect(result.code == 0, "\(result)")
        let (inode, committed) = fixture.coordinator.script.withLock {
            ($0.tree.children[FakeTree.root]?["new"] ?? 0, $0.writing.committed)
        }
        #expect(committed[inode] == bytes)
        let commits = fixture.coordinator.log.withLock { $0.commits }
        #expect(commits.count == 1 && commits.allSatisfy { $0.written && !$0.synchronize }, "\(commits)")
    }

    @Test("the error of a commit reaches close(2), and that of fsync(2) reaches fsync(2); both can be tried again")
    func commitErrors() async throws {
        let fixture = try await start()
        fixture.coordinator.script.withLock { $0.writing.failures["commit"] = .staleNFSFileHandle }
        let gate = fixture.coordinator.directory + "/gate"
        mkfifo(gate, 0o600)
        let program = """
            import errno
            f = os.open(M + "/new", os.O_WRONLY | os.O_CREAT)
            os.write(f, b"kept")
            for call in (os.fsync, os.fdatasync, lambda f: os.close(os.dup(f))):
                try: call(f); print("no error")
                except OSError as e: print(errno.errorcode[e.errno])
            open("\(gate)").read()
            os.fsync(f); os.close(f); print("committed")
            """
        let child = try await Shell.start(
            "python3 -u - <<'END'\nimport os\nM = os.environ['M']\n\(program)\nEND", mountPoint: fixture.path)
        #expect(await eventually { child.output.split(separator: "\n").count == 3 })
        fixture.coordinator.script.withLock { $0.writing.failures = [:] }
        _ = try await fixture.shell("echo > \(gate)")
        #expect(await child.wait() == 0)
        #expect(child.output == "ESTALE\nESTALE\nESTALE\ncommitted\n")
        let commits = fixture.coordinator.log.withLock { $0.commits }
        #expect(commits.first?.synchronize == true && commits.first?.written == true, "\(commits)")
        #expect(fixture.coordinator.script.withLock { $0.writing.committed.values.first } == Array("kept".utf8))
    }

    @Test("appends of two mounts to one file lose nothing", arguments: grants)
    func appends(_ name: String, _ grant: FakeWriteGrant) async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.writing.grant = grant }
        let first = try await MountFixture.start(coordinator, readOnly: false)
        let second = try await MountFixture.start(coordinator, readOnly: false)
        #expect(try await first.shell("printf '' > $M/log").code == 0)
        let program = """
            import sys
            f = os.open(M + "/log", os.O_WRONLY | os.O_APPEND)
            for i in range(300): os.write(f, (sys.argv[1] + " " + str(i) + "\\n").encode())
            """
        let run: @Sendable (MountFixture, String) async throws -> Shell = { mount, tag in
            try await Shell.start(
                "python3 - \(tag) <<'END'\nimport os\nM = os.environ['M']\n\(program)\nEND", mountPoint: mount.path)
        }
        // Held open, so that all are writers of one file.
        let holder = try await Shell.start("exec 3>>$M/log; echo open; exec sleep 1000", mountPoint: first.path)
        #expect(await eventually { holder.output == "open\n" })
        let writers = try await [run(first, "a"), run(first, "b"), run(second, "c"), run(second, "d")]
        for writer in writers { #expect(await writer.wait() == 0, "\(writer.output)") }
        let lines = try await first.shell(
            "cp $M/log \(coordinator.directory)/copy; sort -u \(coordinator.directory)/copy | wc -l; wc -l < \(coordinator.directory)/copy"
        )
        #expect(lines.output == "1200\n1200\n")
        kill(holder.pid, SIGKILL)
        _ = await holder.wait()
    }

    @Test("shared maps are written, also after their file was closed", arguments: grants)
    func maps(_ name: String, _ grant: FakeWriteGrant) async throws {
        let fixture = try await start(grant)
        try await expect(
            fixture,
            """
            import mmap
            p = M + "/map"
            f = os.open(p, os.O_RDWR | os.O_CREAT)
            os.ftruncate(f, 200000)
            m = mmap.mmap(f, 200000)
            os.close(f)
            m[100000:100005] = b"hello"
            m.flush()
            print(os.pread(os.open(p, os.O_RDONLY), 5, 100000))
            m[100000:100005] = b"later"
            m.close()
            """, prints: "b'hello'\n")
        let result = try await fixture.shell("dd if=$M/map bs=1 skip=100000 count=5 status=none; stat -c ' %s' $M/map")
        #expect(result.output == "later 200000\n")
    }

    @Test("truncates down and up, by handle and by name", arguments: grants)
    func truncates(_ name: String, _ grant: FakeWriteGrant) async throws {
        let fixture = try await start(grant)
        try await expect(
            fixture,
            """
            p = M + "/new"
            f = os.open(p, os.O_RDWR | os.O_CREAT)
            os.write(f, b"x" * 100000)
            os.ftruncate(f, 10); print(os.fstat(f).st_size, len(os.pread(f, 100, 0)))
            os.ftruncate(f, 20); print(os.pread(f, 100, 0) == b"x" * 10 + b"\\0" * 10)
            g = os.open(p, os.O_WRONLY | os.O_TRUNC); print(os.fstat(f).st_size, os.fstat(g).st_size)
            os.write(g, b"yy"); print(os.pread(f, 100, 0))
            """, prints: "10 10\nTrue\n0 0\nb'yy'\n")
    }

    @Test("allocates, punches holes and finds them", arguments: grants)
    func holes(_ name: String, _ grant: FakeWriteGrant) async throws {
        let fixture = try await start(grant)
        let result = try await fixture.shell(
            """
            cd $M
            head -c 1000000 /dev/zero | tr '\\0' x > f
            exec 3<>f
            fallocate -l 2000000 f && fallocate -n -o 2000000 -l 100000 f && fallocate -p -o 65536 -l 131072 f
            stat -c %s f; tail -c +65536 f | head -c 131073 | tr -d x | wc -c
            python3 -c 'import os; f = os.open("f", os.O_RDWR)
            print(os.lseek(f, 0, os.SEEK_HOLE), os.lseek(f, 65536, os.SEEK_DATA))'
            """)
        #expect(result.output == "2000000\n131072\n65536 196608\n", "\(result)")
    }

    @Test("copies ranges between files", arguments: grants)
    func copiesRanges(_ name: String, _ grant: FakeWriteGrant) async throws {
        let fixture = try await start(grant)
        try fixture.coordinator.add("mapped", pattern(300_000), .mapped)
        try await expect(
            fixture,
            """
            a = os.open(M + "/a", os.O_RDWR | os.O_CREAT)
            b = os.open(M + "/b", os.O_RDWR | os.O_CREAT)
            os.write(a, b"0123456789" * 100000)
            def copy(source, to, count, offset, place):
                done = 0
                while done < count: done += os.copy_file_range(source, to, count - done, offset + done, place + done)
            copy(a, b, 500000, 5, 1000)
            print(os.fstat(b).st_size, os.pread(b, 10, 1000))
            m = os.open(M + "/mapped", os.O_RDONLY)
            copy(m, b, 300000, 0, 0)
            print(os.pread(b, 300000, 0) == os.pread(m, 300000, 0), os.fstat(b).st_size)
            """, prints: "501000 b'5678901234'\nTrue 501000\n")
    }

    @Test("a file that is unlinked while it is open goes on, without links", arguments: grants)
    func unlinked(_ name: String, _ grant: FakeWriteGrant) async throws {
        let fixture = try await start(grant)
        try await expect(
            fixture,
            """
            p = M + "/gone"
            f = os.open(p, os.O_RDWR | os.O_CREAT)
            os.write(f, b"one")
            os.unlink(p)
            os.write(f, b"two")
            print(os.pread(f, 10, 0), os.fstat(f).st_size, os.path.exists(p), os.listdir(M))
            os.fsync(f); os.close(f)
            """, prints: "b'onetwo' 6 False []\n")
    }

    @Test("fstat of an unlinked staged file says that it has no links")
    func unlinkedLinks() async throws {
        let fixture = try await start()
        try await expect(
            fixture,
            """
            f = os.open(M + "/gone", os.O_RDWR | os.O_CREAT)
            print(os.fstat(f).st_nlink); os.unlink(M + "/gone"); print(os.fstat(f).st_nlink)
            """, prints: "1\n0\n")
    }

    @Test(
        "a reader keeps its version while a writer writes, and later readers see the writer's",
        arguments: [FakeGrant.passthrough, .whole, .mapped, .inline], [false, true])
    func readersKeepTheirVersion(_ grant: FakeGrant, isBacked: Bool) async throws {
        let fixture = try await start(isBacked ? .stagedBacking : .staged(direct: false, room: 1 << 40))
        let bytes = pattern(60_000)
        try fixture.coordinator.add("data", bytes, grant)
        let reference = try fixture.coordinator.reference(bytes)
        try await expect(
            fixture,
            """
            p, old = M + "/data", open("\(reference)", "rb").read()
            r = os.open(p, os.O_RDONLY)
            print(os.pread(r, 5000, 0) == old[:5000])
            w = os.open(p, os.O_RDWR)
            os.pwrite(w, b"new!", 0); os.pwrite(w, b"end", 100000)
            print(os.pread(r, 60000, 0) == old, os.pread(w, 4, 0), os.fstat(w).st_size)
            late = os.open(p, os.O_RDONLY)
            print(os.pread(late, 4, 0), os.pread(late, 9, 100000))
            os.ftruncate(w, 2)
            print(os.pread(r, 60000, 0) == old, os.pread(late, 9, 0), os.stat(p).st_size)
            os.close(w); os.close(late)
            print(os.pread(r, 60000, 0) == old)
            """,
            prints: """
                True
                True b'new!' 100003
                b'new!' b'end'
                True b'ne' 2
                True

                """)
    }
}
