import Glibc
import Platform

/// Whether a signal should end a waiting system call with EINTR.
///
/// The kernel tells of any signal, also of those that a program catches all the time (Go's preemption, a JVM's
/// profiler, timers), and stat(2) failing with EINTR breaks programs. So only a signal that kills the caller ends the
/// wait, or one by which a person asks it to stop.
enum InterruptPolicy {
    private static let requestsToStop: UInt64 = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGKILL].reduce(0) { $0 | bit($1) }
    private static let ignoredByDefault: UInt64 =
        [SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU].reduce(0) { $0 | bit($1) }

    private static func bit(_ signal: CInt) -> UInt64 { 1 << UInt64(signal - 1) }

    /// - Parameter thread: 0 (in a pid namespace that is not ours) or gone counts as ended: it must never hang.
    static func endsWait(of thread: Int32) -> Bool {
        guard thread > 0, let status = Machine.contents(of: "/proc/\(thread)/status") else { return true }
        return endsWait(status: status)
    }

    /// - Parameter status: the text of /proc/PID/status (proc(5)), whose signal sets are hexadecimal.
    static func endsWait(status: String) -> Bool {
        var sets: [Substring: UInt64] = [:]
        for line in status.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"].contains(parts[0]) else {
                continue
            }
            sets[parts[0]] = UInt64(parts[1].drop { $0 == "\t" || $0 == " " }, radix: 16)
        }
        guard let own = sets["SigPnd"], let shared = sets["ShdPnd"], let blocked = sets["SigBlk"],
            let ignored = sets["SigIgn"], let caught = sets["SigCgt"]
        else { return true }
        let pending = (own | shared) & ~(blocked | ignored)
        let fatal = pending & ~caught & ~ignoredByDefault
        return fatal != 0 || pending & requestsToStop != 0
    }
}
