import Coordination
import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem
@testable import FuseBridge

@Suite("Advisory locks")
struct LockTests {
    private func mounts() async throws -> (FakeCoordinator, MountFixture, MountFixture) {
        let coordinator = try FakeCoordinator()
        try coordinator.add("data", pattern(100), .whole)
        return (
            coordinator, try await MountFixture.start(coordinator, readOnly: false),
            try await MountFixture.start(coordinator, readOnly: false)
        )
    }

    private func run(_ program: String, _ mount: MountFixture) async throws -> Shell {
        try await Shell.start(
            "exec python3 -u - <<'END'\nimport os, fcntl, signal, errno\nf = open(os.environ['M'] + '/data', 'r+')\n\(program)\nEND",
            mountPoint: mount.path)
    }

    @Test(
        "hold between mounts, and end with their holder",
        arguments: ["fcntl.flock(f, fcntl.LOCK_EX%)", "fcntl.lockf(f, fcntl.LOCK_EX%, 10, 20)"])
    func holdBetweenMounts(_ call: String) async throws {
        let (_, first, second) = try await mounts()
        let lock = call.replacing("%", with: " | fcntl.LOCK_NB")
        let holder = try await run("\(lock); print('locked'); signal.pause()", first)
        #expect(await eventually { holder.output == "locked\n" })
        let other = try await run("try: \(lock); print('locked')\nexcept BlockingIOError: print('busy')", second)
        #expect(await other.wait() == 0)
        #expect(other.output == "busy\n")
        let waiter = try await run("print('waiting'); \(call.replacing("%", with: "")); print('locked')", second)
        #expect(await eventually { waiter.output == "waiting\n" })
        kill(holder.pid, SIGKILL)
        #expect(await waiter.wait() == 0)
        #expect(waiter.output == "waiting\nlocked\n")
    }

    @Test("of fcntl end when the process closes any descriptor of the file, also one opened for reading")
    func endAtClose() async throws {
        let (coordinator, first, _) = try await mounts()
        let child = try await run(
            """
            fcntl.lockf(f, fcntl.LOCK_EX); print('locked'); os.close(os.dup(f.fileno())); print('closed')
            g = open(f.name); fcntl.lockf(g, fcntl.LOCK_SH); g.close(); print('end'); signal.pause()
            """, first)
        #expect(await eventually { child.output == "locked\nclosed\nend\n" }, "\(child.output)")
        #expect(await eventually { coordinator.script.withLock { $0.writing.locks.isEmpty } })
        kill(child.pid, SIGKILL)
        _ = await child.wait()
    }

    @Test("tell who holds them")
    func conflict() async throws {
        let (_, first, second) = try await mounts()
        let holder = try await run("fcntl.lockf(f, fcntl.LOCK_EX, 10, 20); print('locked'); signal.pause()", first)
        #expect(await eventually { holder.output == "locked\n" })
        let other = try await run(
            """
            import struct
            def ask(start, length):
                answer = fcntl.fcntl(f, fcntl.F_GETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, start, length, 0))
                return struct.unpack('hhqqi4x', answer)[::2] + struct.unpack('hhqqi4x', answer)[3:4]
            kind, start, pid, length = ask(0, 0); print(kind == fcntl.F_WRLCK, start, length, pid == \(holder.pid))
            print(ask(100, 5)[0] == fcntl.F_UNLCK)
            """, second)
        #expect(await other.wait() == 0, "\(other.output)")
        #expect(other.output == "True 20 10 True\nTrue\n")
        kill(holder.pid, SIGKILL)
        _ = await holder.wait()
    }

    @Test("that are waited for end the wait at a signal, and leave nothing behind")
    func interruptedWait() async throws {
        let (coordinator, first, second) = try await mounts()
        let holder = try await run("fcntl.flock(f, fcntl.LOCK_EX); print('locked'); signal.pause()", first)
        #expect(await eventually { holder.output == "locked\n" })
        // A program's own signal is how it limits the wait; python tries again unless the handler raises.
        let waiter = try await run(
            """
            def stop(*_): raise TimeoutError
            signal.signal(signal.SIGUSR1, stop)
            try: print('waiting'); fcntl.flock(f, fcntl.LOCK_EX)
            except TimeoutError: print('stopped'); signal.pause()
            """, second)
        #expect(
            await eventually {
                waiter.output == "waiting\n" && coordinator.script.withLock { !$0.writing.lockWaiters.isEmpty }
            })
        kill(waiter.pid, SIGUSR1)
        #expect(await eventually { waiter.output == "waiting\nstopped\n" })
        #expect(await eventually { coordinator.script.withLock { $0.writing.lockWaiters.isEmpty } })
        kill(holder.pid, SIGKILL)
        #expect(await eventually { coordinator.script.withLock { $0.writing.locks.isEmpty } })
        kill(waiter.pid, SIGKILL)
        _ = await (holder.wait(), waiter.wait())
    }

    @Test("are shown to a new coordinator")
    func presented() async throws {
        let (coordinator, first, second) = try await mounts()
        let holder = try await run(
            "fcntl.lockf(f, fcntl.LOCK_SH, 10, 20); fcntl.flock(f, fcntl.LOCK_EX); print('locked'); signal.pause()",
            first)
        #expect(await eventually { holder.output == "locked\n" })
        coordinator.stop()
        coordinator.script.withLock { $0.writing.locks = [] }
        try coordinator.start()
        #expect(await eventually { coordinator.script.withLock { $0.writing.locks.count } == 2 })
        let other = try await run(
            "try: fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)\nexcept BlockingIOError: print('busy')", second)
        #expect(await other.wait() == 0)
        #expect(other.output == "busy\n")
        kill(holder.pid, SIGKILL)
        _ = await holder.wait()
    }

    @Test("of one owner replace, split and join as fcntl(2) says")
    func ranges() {
        var ranges = LockRanges()
        func held() -> [String] { ranges.held.map { "\($0.start)-\($0.end) \($0.kind)" } }
        ranges.set(0, 99, .exclusive)
        ranges.set(40, 59, nil)
        #expect(held() == ["0-39 exclusive", "60-99 exclusive"])
        ranges.set(30, 69, .shared)
        #expect(held() == ["0-29 exclusive", "30-69 shared", "70-99 exclusive"])
        ranges.set(30, 69, .exclusive)
        #expect(held() == ["0-99 exclusive"])
        ranges.set(100, .max, .exclusive)
        ranges.set(.max, .max, nil)
        #expect(held() == ["0-\(UInt64.max - 1) exclusive"])
        ranges.set(0, .max, nil)
        #expect(ranges.isEmpty)
    }
}
