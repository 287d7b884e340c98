import Coordination
import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem
@testable import FuseBridge

@Suite("Writing when room is short or the coordinator goes away")
struct WriteRecoveryTests {
    private func start(room: UInt64 = 1 << 40, passthrough: Bool = false) async throws -> MountFixture {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock {
            $0.writing.grant = passthrough ? .stagedBacking : .staged(direct: false, room: room)
        }
        return try await MountFixture.start(coordinator, readOnly: false)
    }

    private func run(_ program: String, _ fixture: MountFixture) async throws -> Shell {
        try await Shell.start(
            "exec python3 -u - <<'END'\nimport os, errno\nM = os.environ['M']\n\(program)\nEND",
            mountPoint: fixture.path)
    }

    @Test("a writer waits for room, and writes all of its bytes when there is")
    func waitsForRoom() async throws {
        let fixture = try await start(room: 1 << 20)
        let gate = OneShot<Bool>()
        fixture.coordinator.script.withLock { $0.writing.reserveGate = gate }
        let bytes = pattern(9_000_000)
        let reference = try fixture.coordinator.reference(bytes)
        let child = try await Shell.start("cp \(reference) $M/new", mountPoint: fixture.path)
        #expect(await eventually { fixture.coordinator.log.withLock { !$0.reserved.isEmpty } })
        gate.set(true)
        #expect(await child.wait() == 0, "\(child.output)")
        #expect(fixture.coordinator.script.withLock { $0.writing.committed.values.first } == bytes)
        let reserved = fixture.coordinator.log.withLock { $0.reserved }
        #expect(reserved.allSatisfy { $0 >= 1 << 20 } && reserved.reduce(0, +) >= 8_000_000, "\(reserved)")
    }

    @Test("a writer without room gets ENOSPC, and can go on when there is some")
    func noRoom() async throws {
        let fixture = try await start(room: 1 << 20)
        fixture.coordinator.script.withLock { $0.writing.failures["reserve"] = .noSpace }
        let gate = fixture.coordinator.directory + "/gate"
        mkfifo(gate, 0o600)
        let child = try await run(
            """
            f = os.open(M + "/new", os.O_WRONLY | os.O_CREAT)
            try:
                for i in range(3): os.pwrite(f, b"x" * (1 << 20), i << 20)
            except OSError as e: print(errno.errorcode[e.errno], os.fstat(f).st_size)
            open("\(gate)").read()
            print(os.pwrite(f, b"y" * (1 << 20), 1 << 20)); os.close(f)
            """, fixture)
        #expect(await eventually { child.output == "ENOSPC 1048576\n" }, "\(child.output)")
        fixture.coordinator.script.withLock { $0.writing.failures = [:] }
        _ = try await fixture.shell("echo > \(gate)")
        #expect(await child.wait() == 0)
        #expect(child.output == "ENOSPC 1048576\n1048576\n")
        #expect(fixture.coordinator.script.withLock { $0.writing.committed.values.first?.count } == 2 << 20)
    }

    private func restart(_ fixture: MountFixture, keepsStaged: Bool, _ program: String) async throws -> Shell {
        let gate = fixture.coordinator.directory + "/gate"
        mkfifo(gate, 0o600)
        let child = try await run(program.replacing("GATE", with: "open('\(gate)').read()"), fixture)
        #expect(await eventually { child.output.hasPrefix("written\n") }, "\(child.output)")
        fixture.coordinator.stop()
        fixture.coordinator.script.withLock { $0.writing.keepsStaged = keepsStaged }
        try fixture.coordinator.start()
        #expect(await eventually { fixture.coordinator.log.withLock { !$0.presented.isEmpty } })
        _ = try await fixture.shell("echo > \(gate)")
        return child
    }

    @Test(
        "a writer goes on with its descriptor when the coordinator comes back, and commits all",
        arguments: [false, true])
    func resumes(passthrough: Bool) async throws {
        let fixture = try await start(passthrough: passthrough)
        let child = try await restart(
            fixture, keepsStaged: true,
            """
            f = os.open(M + "/new", os.O_RDWR | os.O_CREAT)
            os.write(f, b"before "); print("written"); GATE
            os.write(f, b"after"); print(os.pread(f, 20, 0)); os.fsync(f); os.close(f)
            """)
        #expect(await child.wait() == 0)
        #expect(child.output == "written\nb'before after'\n")
        #expect(fixture.coordinator.script.withLock { $0.writing.committed.values.first } == Array("before after".utf8))
    }

    @Test("a writer whose file the new coordinator does not know gets EIO from write, fsync and close")
    func lost() async throws {
        let fixture = try await start()
        let child = try await restart(
            fixture, keepsStaged: false,
            """
            f = os.open(M + "/new", os.O_RDWR | os.O_CREAT)
            os.write(f, b"before"); print("written"); GATE
            def name(call):
                try: call(); return "no error"
                except OSError as e: return errno.errorcode[e.errno]
            # The file is known to be lost once the coordinator has said so.
            print(name(lambda: os.fsync(f)) in ("EIO", "ESTALE"))
            print(name(lambda: os.write(f, b"after")), name(lambda: os.fsync(f)), name(lambda: os.close(f)))
            """)
        #expect(await child.wait() == 0)
        #expect(child.output == "written\nTrue\nEIO EIO EIO\n")
    }

    @Test("a commit goes on when the process that closes is killed")
    func killedWhileClosing() async throws {
        let fixture = try await start()
        let gate = OneShot<Bool>()
        fixture.coordinator.script.withLock { $0.writing.commitGate = gate }
        let child = try await Shell.start("exec 3>$M/new; echo kept >&3; exec 3>&-", mountPoint: fixture.path)
        #expect(await eventually { fixture.coordinator.log.withLock { !$0.commits.isEmpty } })
        kill(child.pid, SIGKILL)
        #expect(await child.wait() == 128 + SIGKILL)
        gate.set(true)
        #expect(
            await eventually {
                fixture.coordinator.script.withLock { $0.writing.committed.values.first == Array("kept\n".utf8) }
            })
    }

    @Test("what is written through a map after the last commit is told at the release")
    func toldAtRelease() async throws {
        let fixture = try await start()
        let child = try await run(
            """
            import mmap
            f = os.open(M + "/new", os.O_RDWR | os.O_CREAT)
            os.ftruncate(f, 4096)
            m = mmap.mmap(f, 4096); os.close(f); m[0:4] = b"late"; m.close()
            """, fixture)
        #expect(await child.wait() == 0)
        #expect(
            await eventually {
                fixture.coordinator.script.withLock { $0.writing.committed.values.first?.prefix(4) }
                    == Array("late".utf8)[...]
            })
    }

    @Test("room is asked for ahead, once, and refusals are told to those who wait")
    func stagingRoom() {
        let room = StagingRoom(size: 0, room: 100)
        let told = Lock<[Errno?]>([])
        let note: StagingRoom.Waiter = { error in told.withLock { $0.append(error) } }
        #expect(room.admits(50) && !room.admits(51))
        guard case .grantedAsking(StagingRoom.smallest) = room.admit(60, note) else { return #expect(Bool(false)) }
        guard case .granted = room.admit(100, note) else { return #expect(Bool(false)) }
        guard case .wait = room.admit(101, note) else { return #expect(Bool(false)) }
        guard case .wait = room.admit(StagingRoom.smallest * 3, note) else { return #expect(Bool(false)) }
        let (ready, next) = room.granted(StagingRoom.smallest)
        #expect(ready.count == 1 && next == StagingRoom.smallest * 2 - 100)
        #expect(room.refused().count == 1)
        guard case .waitAsking = room.admit(StagingRoom.smallest * 3, note) else { return #expect(Bool(false)) }
    }
}
