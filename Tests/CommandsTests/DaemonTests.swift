import Commands
import Glibc
import Platform
import TestSupport
import Testing

@Suite struct StartReportTests {
    /// What the starter learns of a daemon that does `body` and ends.
    private func report(
        _ body: @escaping @Sendable (StartReporter) -> Void
    ) async throws -> (failure: CommandFailure?, notes: [String]) {
        let reading = try start(body)
        return try await onThread {
            var notes: [String] = []
            do throws(CommandFailure) {
                try StartReport.wait(reading, name: "mount process", log: "/log") { notes.append($0) }
                return (nil, notes)
            } catch { return (error, notes) }
        }
    }

    /// Only the thread keeps the writing end, as only the daemon does.
    private func start(_ body: @escaping @Sendable (StartReporter) -> Void) throws -> Descriptor {
        let (reading, writing) = try Descriptor.pipe()
        startThread(named: "test-daemon") { body(StartReporter(writing)) }
        return reading
    }

    @Test func readyEndsTheWait() async throws {
        let result = try await report { reporter in
            reporter.note("no RAM tier")
            reporter.ready()
        }
        #expect(result.failure == nil)
        #expect(result.notes == ["no RAM tier"])
    }

    @Test func aFailureKeepsItsCodeAndStaysOneLine() async throws {
        let failure = CommandFailure(.noPermission, "access denied to s3://b:\nno key 3")
        let result = try await report { $0.failed(failure) }
        #expect(result.failure == CommandFailure(code: 77, message: "access denied to s3://b: no key 3"))
    }

    @Test func aDaemonThatDiesWithoutAWordIsNotWaitedFor() async throws {
        let result = try await report { _ in }
        #expect(result.failure?.code == 70)
        #expect(result.failure?.message.contains("/log") == true)
    }
}

@Suite struct DaemonPlaceTests {
    @Test func logsGoWhereTheUsersStateIs() {
        #expect(DaemonLog.directory(environment: ["XDG_STATE_HOME": "/s"], uid: 0) == "/s/larder/log")
        #expect(DaemonLog.directory(environment: [:], uid: 0) == "/var/log/larder")
        #expect(DaemonLog.directory(environment: ["HOME": "/home/me"], uid: 7) == "/home/me/.local/state/larder/log")
    }

    @Test func eachMountPointHasALogOfItsOwn() {
        #expect(DaemonLog.name(mountPoint: "/mnt/lake_1.x") == "mount-mnt-lake_1.x.log")
        #expect(DaemonLog.name(mountPoint: "/") == "mount-root.log")
        #expect(DaemonLog.name(mountPoint: "/a-b") != DaemonLog.name(mountPoint: "/a/b"))
        #expect(DaemonLog.name(mountPoint: "/ä b") == "mount-\\xc3\\xa4\\x20b.log")
        #expect(DaemonLog.name(mountPoint: "/" + String(repeating: "x", count: 4000)).utf8.count <= 255)
    }

    @Test func anAutomaticCoordinatorTakesNoMoreThanTheDiskHas() {
        #expect(AutomaticCoordinator.defaultSize(availableBytes: 100 << 20) == 80 << 20)
        #expect(AutomaticCoordinator.defaultSize(availableBytes: 1 << 50) == 100 << 30)
    }

    @Test func anAutomaticCoordinatorKeepsItsStateApartFromItsCache() throws {
        let directory = try TemporaryDirectory()
        let settings = try AutomaticCoordinator.settings(
            socket: "/run/c.sock", cacheDirectory: directory.path, cacheSize: 1 << 30, ramSize: nil, logLevel: .info,
            environment: [:], uid: getuid())
        #expect(settings.tiers == [.init(kind: .disk, path: directory.file("blocks"), size: 1 << 30)])
        #expect(!settings.stateDirectory.hasPrefix(directory.path), "the cache's disk may fail")
        let state = { (cache: String, environment: [String: String], uid: UInt32) in
            AutomaticCoordinator.stateDirectory(cache, environment: environment, uid: uid)
        }
        #expect(state("/c", ["XDG_STATE_HOME": "/s"], 0).hasPrefix("/s/larder/cache-"))
        #expect(state("/c", [:], 0).hasPrefix("/var/lib/larder/cache-"))
        #expect(state("/c", ["HOME": "/home/me"], 7).hasPrefix("/home/me/.local/state/larder/cache-"))
        #expect(state("/c", [:], 0) != state("/d", [:], 0), "two caches have two journals")
        #expect(try FileStatus(of: directory.file("blocks")).mode & 0o777 == 0o700)
    }

    @Test func theDefaultCacheLeavesRoomOnItsDisk() throws {
        let directory = try TemporaryDirectory()
        let settings = try AutomaticCoordinator.settings(
            socket: "/run/c.sock", cacheDirectory: directory.path, cacheSize: nil, ramSize: 0, logLevel: .info,
            environment: [:], uid: getuid())
        let space = try #require(DiskSpace(of: directory.path))
        #expect(settings.tiers.count == 1)
        #expect(settings.tiers[0].size <= space.totalBytes)
        #expect(settings.tiers[0].size <= 100 << 30)
    }

    @Test func theCacheDirectoryFollowsTheUser() {
        #expect(AutomaticCoordinator.defaultDirectory(environment: ["XDG_CACHE_HOME": "/c"], uid: 0) == "/c/larder")
        #expect(AutomaticCoordinator.defaultDirectory(environment: [:], uid: 0) == "/var/cache/larder")
        #expect(
            AutomaticCoordinator.defaultDirectory(environment: ["HOME": "/home/me"], uid: 7) == "/home/me/.cache/larder"
        )
    }

    @Test func aProcessThatUsesADirectoryIsFound() async throws {
        let directory = try TemporaryDirectory()
        try directory.write("file", "text\n")
        let reader = try await TestProcess.start(TestTools.path("tail"), ["-f", directory.file("file")])
        while !reader.output.contains("text") { try await Task.sleep(for: .milliseconds(10)) }
        #expect(BusyProcesses.using(directory.path).map(\.pid) == [reader.pid])
        #expect(BusyProcesses.using(directory.path).map(\.name) == ["tail"])
        await reader.stop()
        #expect(BusyProcesses.using(directory.path).isEmpty)
    }
}
