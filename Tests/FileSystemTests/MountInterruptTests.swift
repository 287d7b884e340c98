import Glibc
import Platform
import SystemPackage
import Testing

@testable import FileSystem
@testable import FuseBridge

@Suite("Interrupting a caller that waits")
struct MountInterruptTests {
    @Test(
        "a signal ends a reader whose fetch is never answered, also one that reads past the kernel's pages",
        arguments: [SIGINT, SIGTERM, SIGKILL], [300_000, 9 << 20])
    func endsReaders(_ signal: Int32, _ size: Int) async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.onFetch = { _, _, _ in .never } }
        try coordinator.add("data", pattern(size), .mapped)
        let fixture = try await MountFixture.start(coordinator)
        let reader = try await Shell.start("exec cat $M/data", mountPoint: fixture.path)
        #expect(await eventually { coordinator.log.withLock { !$0.fetches.isEmpty } })
        kill(reader.pid, signal)
        #expect(await reader.wait() == 128 + signal)
    }

    @Test("a signal ends a lookup and an open that are never answered")
    func endsLookups() async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.neverAnswered = ["silent", "mute"] }
        let (inode, _) = try coordinator.add("mute", pattern(10), .whole)
        let fixture = try await MountFixture.start(coordinator)
        let lookup = try await Shell.start("exec stat $M/silent", mountPoint: fixture.path)
        let opening = try await Shell.start("exec cat $M/mute", mountPoint: fixture.path)
        #expect(
            await eventually {
                coordinator.log.withLock { $0.lookups["silent"] != nil && $0.opens[inode] != nil }
            })
        for caller in [lookup, opening] {
            kill(caller.pid, SIGINT)
            #expect(await caller.wait() == 128 + SIGINT)
        }
    }

    @Test("an open that is answered after its caller was interrupted is undone")
    func undoesInterruptedOpen() async throws {
        let coordinator = try FakeCoordinator()
        let (inode, _) = try coordinator.add("slow", pattern(300_000), .mapped)
        let gate = OneShot<Bool>()
        coordinator.script.withLock { $0.openGate = gate }
        let fixture = try await MountFixture.start(coordinator)
        let opening = try await Shell.start("exec cat $M/slow", mountPoint: fixture.path)
        #expect(await eventually { coordinator.log.withLock { $0.opens[inode] != nil } })
        kill(opening.pid, SIGKILL)
        #expect(await opening.wait() == 128 + SIGKILL)
        gate.set(true)
        #expect(await eventually { coordinator.log.withLock { $0.releases } == 1 })
        #expect(try await fixture.shell("cat $M/slow | wc -c").output == "300000\n")
    }

    @Test("a signal that the program catches leaves its call waiting; SIGKILL then still ends it")
    func ignoresCaughtSignals() async throws {
        let coordinator = try FakeCoordinator()
        coordinator.script.withLock { $0.neverAnswered = ["silent"] }
        let fixture = try await MountFixture.start(coordinator)
        let program = """
            import os, signal
            signal.signal(signal.SIGUSR1, lambda *_: print("caught", flush=True))
            try: os.stat(os.environ["M"] + "/silent")
            except InterruptedError: print("EINTR", flush=True)
            """
        let child = try await Shell.start("exec python3 -c '\(program)'", mountPoint: fixture.path)
        #expect(await eventually { coordinator.log.withLock { $0.lookups["silent"] != nil } })
        kill(child.pid, SIGUSR1)
        kill(child.pid, SIGUSR1)
        // The kernel has told of the first signal by now; it tells of no other.
        #expect(await eventually { InterruptWatch.shared.watchedCount > 0 })
        #expect(child.output == "")
        kill(child.pid, SIGKILL)
        #expect(await child.wait() == 128 + SIGKILL)
    }

    @Test(
        "the policy reads /proc/PID/status",
        arguments: [
            ("0000000000000000", "0000000000000000", "0000000000000000", false),  // nothing pending
            ("0000000000000002", "0000000000000000", "0000000000000000", true),  // SIGINT
            ("0000000000000002", "0000000000000002", "0000000000000000", true),  // SIGINT, caught: a person asks
            ("0000000000000200", "0000000000000200", "0000000000000000", false),  // SIGUSR1, caught
            ("0000000000000200", "0000000000000000", "0000000000000000", true),  // SIGUSR1 kills
            ("0000000000000200", "0000000000000000", "0000000000000200", false),  // SIGUSR1, blocked
            ("0000000000400000", "0000000000000000", "0000000000000000", false),  // SIGURG, ignored by default
            ("0000000000000100", "0000000000000000", "0000000000000000", true),  // SIGKILL
        ])
    func policy(_ pending: String, _ caught: String, _ blocked: String, _ ends: Bool) {
        let status = """
            Name:\tdd
            SigPnd:\t0000000000000000
            ShdPnd:\t\(pending)
            SigBlk:\t\(blocked)
            SigIgn:\t0000000000000000
            SigCgt:\t\(caught)
            """
        #expect(InterruptPolicy.endsWait(status: status) == ends)
    }

    @Test("an unreadable status ends the wait")
    func policyWithoutStatus() {
        #expect(InterruptPolicy.endsWait(status: ""))
        #expect(InterruptPolicy.endsWait(of: 0))
    }
}
