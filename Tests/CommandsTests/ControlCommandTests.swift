import Commands
import Coordination
import Foundation
import Glibc
import Platform
import TestSupport
import Testing

/// The blocking commands run on a thread of their own, never on the cooperative pool of the tests.
func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        startThread(named: "test") { continuation.resume(with: Result { try body() }) }
    }
}

@Suite struct ControlCommandTests {
    @Test func statShowsWhatTheCoordinatorKnows() async throws {
        let fake = try FakeCoordinator { body, session in
            guard case .describe(let request) = body, request.inode == 7 else {
                return session.fail(EINVAL, "not that")
            }
            var answer = WireDescription()
            answer.attributes = .file(inode: 7, size: 3 << 20)
            answer.url = "s3://bucket/a.parquet"
            answer.version = "\"abc\""
            answer.cachedBytes = 1 << 20
            answer.tier = "disk"
            answer.path = "/a.parquet"
            session.reply(.description_p(answer))
        }
        let target = fake.target("/mnt/a.parquet")
        let json = try await onThread { () -> String in
            let printed = Printed()
            try Stat(targets: [target], json: true).run(printed.output())
            return printed.data
        }
        #expect(
            json == """
                [
                  {
                    "cachedBytes" : 1048576,
                    "coordinator" : "\(fake.socket)",
                    "gid" : 100,
                    "inode" : 7,
                    "kind" : "file",
                    "mode" : "0644",
                    "modified" : "2026-11-22T18:00:00Z",
                    "path" : "/mnt/a.parquet",
                    "size" : 3145728,
                    "tier" : "disk",
                    "uid" : 1000,
                    "url" : "s3://bucket/a.parquet",
                    "version" : "\\"abc\\"",
                    "volumePath" : "/a.parquet"
                  }
                ]

                """)
        let text = try await onThread { () -> String in
            let printed = Printed()
            try Stat(targets: [target], json: false).run(printed.output())
            return printed.data
        }
        #expect(text.contains("cached:       1.0 MiB (33%) in disk\n"), "\(text)")
        #expect(text.contains("size:         3.0 MiB (3145728 bytes)\n"), "\(text)")
    }

    @Test func anErrorOfTheCoordinatorIsOneLineAndKeepsItsKind() async throws {
        let fake = try FakeCoordinator { _, session in session.fail(EACCES, "access denied to s3://bucket:\nno key") }
        let failure = await failureOnThread {
            try UsageSum(targets: [fake.target()], action: .measure, json: true).run(Printed().output())
        }
        #expect(failure.code == 77)
        #expect(failure.message == "cannot measure /mnt/lake: access denied to s3://bucket: no key")
    }

    @Test func nobodyListeningIsExplained() async throws {
        let directory = try TemporaryDirectory()
        let target = NamespaceTarget(path: "/mnt", socket: directory.path + "/none.sock", inode: 1)
        let failure = await failureOnThread { try Synchronization(target: target).run() }
        #expect(failure.code == 69)
        #expect(failure.message.contains("no coordinator listens at \(directory.path)/none.sock"))
    }

    @Test func anAnswerOfTheWrongKindIsAProtocolError() async throws {
        let fake = try FakeCoordinator { _, session in session.reply(.welcome(WireWelcome())) }
        let failure = await failureOnThread { try Synchronization(target: fake.target()).run() }
        #expect(failure.code == 76)
    }

    @Test func duAndFreeShowUsage() async throws {
        let fake = try FakeCoordinator { body, session in
            var usage = WireUsage()
            usage.files = 12
            usage.directories = 3
            usage.bytes = 5 << 30
            usage.cachedBytes = 1 << 30
            switch body {
            case .measure(let request) where request.inode == 7: session.reply(.usage(usage))
            case .free(let request) where request.inode == 7: session.reply(.usage(usage))
            default: session.fail(EINVAL, "not that")
            }
        }
        let target = fake.target()
        let (du, duJSON, free) = try await onThread { () -> (String, String, String) in
            let outputs = [Printed(), Printed(), Printed()]
            try UsageSum(targets: [target], action: .measure, json: false).run(outputs[0].output())
            try UsageSum(targets: [target], action: .measure, json: true).run(outputs[1].output())
            try UsageSum(targets: [target], action: .free, json: false).run(outputs[2].output())
            return (outputs[0].data, outputs[1].data, outputs[2].data)
        }
        #expect(
            du == """
                   SIZE   CACHED  FILES  DIRS  PATH
                5.0 GiB  1.0 GiB     12     3  /mnt/lake

                """)
        #expect(
            duJSON == """
                [
                  {
                    "bytes" : 5368709120,
                    "cachedBytes" : 1073741824,
                    "directories" : 3,
                    "files" : 12,
                    "path" : "/mnt/lake"
                  }
                ]

                """)
        #expect(free == "/mnt/lake: freed 1.0 GiB of 12 files\n")
    }

    @Test func syncReturnsWhenItIsDone() async throws {
        let fake = try FakeCoordinator { _, session in session.reply(.done(WireDone())) }
        let target = fake.target(inode: 9)
        try await onThread { try Synchronization(target: target).run() }
        var request = WireSynchronize()
        request.inode = 9
        #expect(fake.received == [.synchronize(request)])
    }
}

@Suite struct ListCommandTests {
    /// Two pages: names in no order, one of them not UTF-8, one with an escape sequence.
    private static func script(_ body: WireEnvelope.OneOf_Body, _ session: FakeSession) {
        switch body {
        case .describe(let request):
            var answer = WireDescription()
            answer.attributes = request.inode == 7 ? .directory(inode: 7) : .file(inode: request.inode, size: 100)
            answer.cachedBytes = request.inode * 10
            answer.url = "s3://b/x"
            if request.inode == 4 { return session.fail(ENOENT, "gone") }
            session.reply(.description_p(answer))
        case .list(let request) where request.stream == 0:
            session.reply(
                .listPage(
                    page(5, [("z\u{1b}[31m", .file(inode: 10, size: 100)), ("dir", .directory(inode: 3))], end: false)))
        case .list(let request) where request.stream == 5:
            session.reply(
                .listPage(
                    page(5, [("gone", .file(inode: 4, size: 2048)), ("b", .file(inode: 5, size: 100))], end: true)))
        default: session.fail(EINVAL, "not that")
        }
    }

    private static func page(_ stream: UInt64, _ entries: [(String, WireAttributes)], end: Bool) -> WireListPage {
        var page = WireListPage()
        page.stream = stream
        page.end = end
        page.entries = entries.map { name, attributes in
            var entry = WireListEntry()
            entry.name = name == "b" ? Data([0x62, 0xff]) : Data(name.utf8)
            entry.attributes = attributes
            return entry
        }
        return page
    }

    @Test func aDirectoryIsSortedAndShowsWhatIsCached() async throws {
        let fake = try FakeCoordinator(Self.script)
        let target = fake.target()
        let text = try await onThread { () -> String in
            let printed = Printed()
            try DirectoryContents(target: target, json: false).run(printed.output())
            return printed.data
        }
        #expect(
            text == """
                0644    100 B   50%  2026-11-22T18:00:00Z  b\u{fffd}
                0755        -     -  2026-11-22T18:00:00Z  dir/
                0644  2.0 KiB     -  2026-11-22T18:00:00Z  gone
                0644    100 B  100%  2026-11-22T18:00:00Z  z\\x1b[31m

                """)
    }

    @Test func itsJSONIsValidAndKeepsBytes() async throws {
        let fake = try FakeCoordinator(Self.script)
        let target = fake.target()
        let text = try await onThread { () -> String in
            let printed = Printed()
            try DirectoryContents(target: target, json: true).run(printed.output())
            return printed.data
        }
        let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        #expect(object["path"] as? String == "/mnt/lake")
        let entries = try #require(object["entries"] as? [[String: Any]])
        #expect(entries.map { $0["name"] as? String } == ["b\u{fffd}", "dir", "gone", "z\u{1b}[31m"])
        #expect(entries[0]["nameBase64"] as? String == Data([0x62, 0xff]).base64EncodedString())
        #expect(entries[0]["cachedBytes"] as? Int == 50)
        #expect(entries[1]["kind"] as? String == "directory")
        #expect(entries[3]["url"] as? String == "s3://b/x")
    }

    @Test func aFileIsListedAsItself() async throws {
        let fake = try FakeCoordinator(Self.script)
        let target = fake.target("/mnt/f", inode: 10)
        let text = try await onThread { () -> String in
            let printed = Printed()
            try DirectoryContents(target: target, json: false).run(printed.output())
            return printed.data
        }
        #expect(text == "0644  100 B  100%  2026-11-22T18:00:00Z  /mnt/f\n")
    }
}

@Suite struct StatusCommandTests {
    @Test func theShapeOfTheJSONIsStable() async throws {
        let fake = try FakeCoordinator { _, session in session.reply(.status(Self.status)) }
        let socket = fake.socket
        let report = try await onThread { try StatusQuery.ask(ControlSession(socket: socket)) }
        #expect(
            JSONText.of(report) == """
                {
                  "cache" : {
                    "tiers" : [
                      {
                        "files" : 3,
                        "kind" : "disk",
                        "path" : "/var/cache/larder",
                        "quotaBytes" : 1099511627776,
                        "state" : "in use",
                        "usedBytes" : 1048576
                      }
                    ]
                  },
                  "conflicts" : 1,
                  "coordinator" : {
                    "pid" : 42,
                    "socket" : "/run/larder/coordinator.sock",
                    "uptimeSeconds" : 61,
                    "version" : "larder 0.1.0"
                  },
                  "mounts" : [
                    {
                      "generation" : 2,
                      "mountpoint" : "/mnt/lake",
                      "openFiles" : [
                        {
                          "mode" : "passthrough",
                          "opens" : 2,
                          "path" : "/a"
                        }
                      ],
                      "passthrough" : true,
                      "pid" : 43,
                      "resumable" : true,
                      "source" : "s3://bucket",
                      "supervisor" : 41,
                      "uid" : 1000,
                      "waiting" : false
                    }
                  ],
                  "notes" : [
                    "no RAM tier"
                  ],
                  "pending" : [
                    {
                      "ageSeconds" : 5,
                      "bytes" : 2048,
                      "lastError" : "the store is away",
                      "path" : "d/new",
                      "state" : "failed",
                      "store" : "s3://bucket",
                      "uploadedBytes" : 1024
                    }
                  ],
                  "pendingBytes" : 4096,
                  "pendingFiles" : 3,
                  "stores" : [
                    {
                      "bytesReceived" : 1000,
                      "conditions" : "not enforced: checked before and after",
                      "errors" : 2,
                      "identity" : "s3://bucket@https://s3.amazonaws.com",
                      "lastError" : "slow down",
                      "requests" : {
                        "GET" : 5,
                        "HEAD" : 0,
                        "LIST" : 1
                      },
                      "retries" : 3,
                      "shadowedObjects" : 1,
                      "unnameableKeys" : 4
                    }
                  ]
                }
                """)
    }

    @Test func theTextNamesEverything() {
        let text = StatusReport(Self.status).text()
        #expect(
            text == """
                larder 0.1.0, pid 42, at /run/larder/coordinator.sock, up 1 min 01 s

                CACHE  PATH                  USED       OF  FILES  STATE
                disk   /var/cache/larder  1.0 MiB  1.0 TiB      3  in use

                STORE                                 GET  HEAD  LIST  PUT  RECEIVED  RETRIES  ERRORS
                s3://bucket@https://s3.amazonaws.com    5     0     1    0    1000 B        3       2
                  last error of s3://bucket@https://s3.amazonaws.com: slow down
                  conditional writes to s3://bucket@https://s3.amazonaws.com are not enforced: checked before and after
                  4 keys that POSIX cannot name are not shown
                  1 objects are hidden by a directory of the same name

                MOUNT      SOURCE       PID   UID  PASSTHROUGH  OPEN  RESUMED
                /mnt/lake  s3://bucket   43  1000  yes             1  once

                OPEN FILE    OPENS  READ BY
                /mnt/lake/a      2  passthrough

                NOT IN THE STORE YET  STATE      SIZE  UPLOADED  SINCE
                s3://bucket/d/new     failed  2.0 KiB   1.0 KiB    5 s
                  and 2 more; 4.0 KiB in all
                  d/new: the store is away

                1 conflict: larder conflicts lists what lost a race

                note: no RAM tier

                """)
    }

    @Test func theFirstCoordinatorThatListensIsAsked() async throws {
        let fake = try FakeCoordinator { _, session in session.reply(.status(Self.status)) }
        let sockets = ["/nowhere/larder/c.sock", fake.socket]
        let pid = try await onThread { try StatusQuery.ask(StatusQuery.firstListening(sockets)).coordinator.pid }
        #expect(pid == 42)
        let failure = await failureOnThread {
            _ = try StatusQuery.firstListening(["/nowhere/1.sock", "/nowhere/2.sock"])
        }
        #expect(failure.code == 69)
        #expect(failure.message.contains("/nowhere/1.sock"))
    }

    private static let status: WireStatus = {
        var status = WireStatus()
        status.pid = 42
        status.software = "larder 0.1.0"
        status.socket = "/run/larder/coordinator.sock"
        status.uptimeSeconds = 61
        status.notes = ["no RAM tier"]
        var tier = WireStatus.Tier()
        tier.kind = "disk"
        tier.path = "/var/cache/larder"
        tier.quotaBytes = 1 << 40
        tier.usedBytes = 1 << 20
        tier.files = 3
        tier.state = "in use"
        status.tiers = [tier]
        var store = WireStatus.Store()
        store.identity = "s3://bucket@https://s3.amazonaws.com"
        store.requests = ["GET": 5, "LIST": 1]
        store.bytesReceived = 1000
        store.errors = 2
        store.retries = 3
        store.unnameableKeys = 4
        store.shadowedObjects = 1
        store.lastError = "slow down"
        status.stores = [store]
        var mount = WireStatus.Mount()
        mount.mountPath = "/mnt/lake"
        mount.source = "s3://bucket"
        mount.pid = 43
        mount.uid = 1000
        mount.passthrough = true
        mount.generation = 2
        mount.resumable = true
        mount.supervisor = 41
        var file = WireStatus.OpenFile()
        file.path = "/a"
        file.mode = "passthrough"
        file.opens = 2
        mount.openFiles = [file]
        status.mounts = [mount]
        store.conditions = "not enforced: checked before and after"
        status.stores = [store]
        var pending = WireStatus.PendingFile()
        pending.path = "d/new"
        pending.store = "s3://bucket"
        pending.state = "failed"
        pending.bytes = 2048
        pending.uploadedBytes = 1024
        pending.lastError = "the store is away"
        pending.ageSeconds = 5
        status.pending = [pending]
        status.pendingFiles = 3
        status.pendingBytes = 4096
        status.conflicts = 1
        return status
    }()
}

/// What a blocking command throws.
func failureOnThread(_ body: @escaping @Sendable () throws -> Void) async -> CommandFailure {
    let result = try? await onThread { () -> CommandFailure? in
        do {
            try body()
            return nil
        } catch let failure as CommandFailure { return failure }
    }
    guard let failure = result ?? nil else {
        Issue.record("no CommandFailure was thrown")
        return CommandFailure(code: -1, message: "")
    }
    return failure
}
