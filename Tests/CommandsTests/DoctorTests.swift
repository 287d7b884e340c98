import Commands
import Platform
import TestSupport
import Testing
import UnderStores

@Suite struct DoctorTests {
    private let machine = MachineCheckup(environment: [:], uid: 1000)

    @Test func everyFindingThatIsNotFineHasARemedy() {
        let cache = CacheCheckup(directory: "/c")
        let findings = [
            machine.kernel((5, 4)), machine.kernel((6, 8)), machine.allowOther(nil), machine.openFiles((1024, 1024)),
            cache.fileSystem("overlay"), cache.fileSystem("nfs4"), cache.fileSystem("tmpfs"),
            StoreCheckup.clock("Sun, 22 Nov 2026 18:00:00 GMT", now: FileTime(seconds: 1_795_370_400 + 100)),
            StoreCheckup.clock("Sun, 22 Nov 2026 18:00:00 GMT", now: FileTime(seconds: 1_795_370_400 - 3600)),
            StoreCheckup.describe(HTTPError(.resolve, "no such host"), endpoint: "http://nowhere"),
            StoreCheckup.describe(HTTPError(.tls, "bad certificate"), endpoint: "https://host"),
        ]
        for finding in findings {
            #expect(finding.verdict != .ok, "\(finding.name)")
            #expect(finding.remedy?.isEmpty == false, "\(finding.name)")
        }
    }

    @Test func whatIsFineNeedsNone() {
        let findings = [
            machine.kernel((6, 9)), machine.kernel((7, 0)), machine.allowOther("# x\n user_allow_other \n"),
            machine.openFiles((1024, UInt64.max)), CacheCheckup(directory: "/c").fileSystem("ext4"),
            StoreCheckup.clock("Sun, 22 Nov 2026 18:00:00 GMT", now: FileTime(seconds: 1_795_370_401)),
            StoreCheckup.clock(nil, now: FileTime(seconds: 0)),
        ]
        for finding in findings { #expect(finding.verdict == .ok && finding.remedy == nil, "\(finding.name)") }
    }

    @Test func aSkewedClockIsSaidWithItsDirection() {
        let finding = StoreCheckup.clock(
            "Sun, 22 Nov 2026 18:00:00 GMT", now: FileTime(seconds: 1_795_370_400 - 3600))
        #expect(finding.verdict == .failure)
        #expect(finding.detail == "1 h 00 min behind the store's")
    }

    @Test func theTextIsOneLineAndItsRemedy() {
        #expect(Finding.ok("kernel", "Linux 6.18").text == "ok    kernel: Linux 6.18\n")
        #expect(
            Finding.failure("/dev/fuse", "absent", remedy: "modprobe fuse").text
                == "FAIL  /dev/fuse: absent\n      -> modprobe fuse\n")
    }

    @Test func aCacheDirectoryThatCannotBeWrittenIsAFailure() {
        // Not even root may write here.
        let findings = CacheCheckup(directory: "/proc/sys/larder").run()
        #expect(findings.map(\.verdict) == [.failure])
    }

    @Test func aCoordinatorIsOnlyMissedWhenItWasNamed() async throws {
        let verdicts = try await onThread {
            [
                CoordinatorCheckup(sockets: ["/nowhere/c.sock"], isNamed: false).run().verdict,
                CoordinatorCheckup(sockets: ["/nowhere/c.sock"], isNamed: true).run().verdict,
            ]
        }
        #expect(verdicts == [.ok, .failure])
    }
}
