import Glibc
import Platform
import Testing

@Suite("Machine and clocks")
struct MachineTests {
    @Test("facts of the running machine are those that the kernel shows")
    func facts() throws {
        #expect(Machine.bootIdentifier().utf8.count == 36)
        let version = Machine.kernelVersion()
        let release = try #require(Machine.firstLine(of: "/proc/sys/kernel/osrelease"))
        #expect(release.hasPrefix("\(version.major).\(version.minor)"))
        #expect(Machine.contents(of: "/no/such/file") == nil && Machine.firstLine(of: "/no/such/file") == nil)
        let status = try #require(Machine.contents(of: "/proc/thread-self/status"))
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("CapEff:") })
        let mask = try #require(UInt64(line.split { $0 == " " || $0 == "\t" }[1], radix: 16))
        for capability in [0, 12, 21] {
            #expect(Machine.hasCapability(capability) == (mask >> UInt64(capability) & 1 == 1))
        }
    }

    @Test("the monotonic clock does not go back, and the other one is near time(2)")
    func clocks() {
        var last = MonotonicClock.now()
        for _ in 0..<1000 {
            let now = MonotonicClock.now()
            #expect(now >= last)
            last = now
        }
        let before = Int64(time(nil))
        let now = FileTime.now()
        // time(2) takes the time of the last tick, which may be in the second before.
        #expect(now.seconds >= before && now.seconds <= Int64(time(nil)) + 1 && now.nanoseconds < 1_000_000_000)
        #expect(
            FileTime(seconds: 1, nanoseconds: 999) < FileTime(seconds: 2)
                && FileTime(seconds: -1) < FileTime(seconds: 0))
    }
}
