import Foundation
import Glibc
import Platform
import TestSupport
import Testing
import UnderStores

/// Stores that refuse, forget and die while something is written. Each day ends with an error that says so, or with the
/// data in the store, and never with neither.
@Suite struct WritingBadDaysTests {
    /// What a store does while the day is bad.
    private final class Weather: Sendable {
        private let state = Lock((isBad: false, parts: 0))

        var isBad: Bool { state.withLock { $0.isBad } }
        func set(bad: Bool) { state.withLock { $0.isBad = bad } }
        /// The number of parts that were asked for so far, this one included.
        func notePart() -> Int {
            state.withLock { state in
                state.parts += 1
                return state.parts
            }
        }
        var parts: Int { state.withLock { $0.parts } }
    }

    private static func isPart(_ request: FaultyServer.Request) -> Bool {
        request.method == "PUT" && request.target.contains("partNumber=")
    }

    private static func isContent(_ request: FaultyServer.Request, of name: String) -> Bool {
        (request.method == "PUT" || request.method == "POST") && request.target.contains("/\(name)")
    }

    /// Longer than one part of an upload.
    private static let large = 50 << 20

    /// The file was refused: it is among what waits, with its error, and follows when the day is good again.
    private func expectKept(
        _ name: String, _ bytes: [UInt8], _ weather: Weather, _ node: LarderNode, _ mount: String, _ bucket: S3Admin,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let pending = try await node.status().pending
        #expect(
            pending.map(\.path) == [name] && pending.first?.lastError != nil, "\(pending)",
            sourceLocation: sourceLocation)
        let kept = try await onThread { try SampleBytes.whole("\(mount)/\(name)") } == bytes
        #expect(kept, "what is kept can be read", sourceLocation: sourceLocation)
        weather.set(bad: false)
        let flushed = try await node.larder("flush", mount)
        #expect(flushed.code == 0, "\(flushed.output)", sourceLocation: sourceLocation)
        try await expectOnly(name, bytes, node, bucket, sourceLocation: sourceLocation)
    }

    private func expectOnly(
        _ name: String, _ bytes: [UInt8], _ node: LarderNode, _ bucket: S3Admin,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        #expect(try await bucket.keys() == [name], sourceLocation: sourceLocation)
        let isThere = try await bucket.get(name) == bytes
        #expect(isThere, "\(name) has other bytes in the store", sourceLocation: sourceLocation)
        #expect(try await node.status().pending.isEmpty, sourceLocation: sourceLocation)
        await becomes("no upload is left", sourceLocation: sourceLocation) {
            try await bucket.unfinishedUploads() == 0
        }
    }

    @Test(arguments: [(403, "QuotaExceeded"), (507, "XMinioStorageFull")], [300_000, large])
    func aStoreThatIsFullIsNoSpaceAndTheDataFollowsWhenThereIsRoom(answer: (Int, String), size: Int) async throws {
        let server = try await JuiceFSGateway.shared.get()
        let weather = Weather()
        let faulty = try FaultyServer(before: server.endpoint) { request in
            weather.isBad && Self.isContent(request, of: "file") ? .error(answer.0, answer.1) : .none
        }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            weather.set(bad: true)
            let bytes = SampleBytes.make(size, seed: 31)
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_CREAT)
            #expect(try await file.write(bytes) == 0)
            #expect(try await file.close() == ENOSPC)
            #expect(try await node.larder("flush", mount).code != 0, "the store is still full")
            try await expectKept("file", bytes, weather, node, mount, bucket)
        }
    }

    /// Nobody can renew credentials that were given as they are.
    @Test func credentialsThatExpireAmidAnUploadArePermissionDeniedAndTheDataFollows() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let weather = Weather()
        let faulty = try FaultyServer(before: server.endpoint) { request in
            if Self.isPart(request), weather.notePart() == 2 { weather.set(bad: true) }
            return weather.isBad && Self.isContent(request, of: "file") ? .error(403, "ExpiredToken") : .none
        }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            let bytes = SampleBytes.make(Self.large, seed: 32)
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_CREAT)
            #expect(try await file.write(bytes) == 0)
            #expect(try await file.close() == EACCES)
            #expect(weather.parts >= 2)
            try await expectKept("file", bytes, weather, node, mount, bucket)
        }
    }

    @Test func credentialsThatExpireAmidAnUploadAreRenewedWhereTheyCanBe() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let weather = Weather()
        try await withNode { node in
            let renewals = node.directory.file("renewals")
            // Once they have expired, only those that were asked for afterwards are good.
            let asked = { @Sendable in (try? FileStatus(of: renewals).size) ?? 0 }
            let before = Lock<UInt64?>(nil)
            let faulty = try FaultyServer(before: server.endpoint) { request in
                if Self.isPart(request), weather.notePart() == 2 { before.withLock { $0 = asked() } }
                let isExpired = before.withLock { $0.map { asked() == $0 } ?? false }
                return isExpired && request.method != "GET" ? .error(403, "ExpiredToken") : .none
            }
            let keys = server.credentials
            try node.directory.write(
                "credentials.sh",
                """
                printf x >> "\(renewals)"
                echo '{"Version": 1, "AccessKeyId": "\(keys.accessKeyID)", "SecretAccessKey": "\(keys.secretAccessKey)"}'
                """)
            try node.directory.write(
                "home/no-config",
                "[default]\ncredential_process = /bin/sh \(node.directory.file("credentials.sh"))\n")
            let bucket = try await server.makeBucket()
            let mount = try await node.mount("s3://\(bucket.bucket)", "--endpoint", faulty.endpoint)
            let bytes = SampleBytes.make(Self.large, seed: 33)
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_CREAT)
            #expect(try await file.write(bytes) == 0)
            #expect(try await file.close() == 0)
            let expired = before.withLock { $0 }
            #expect(expired != nil && asked() > expired ?? 0, "they expired, and were asked for again")
            try await expectOnly("file", bytes, node, bucket)
        }
    }

    @Test(arguments: [300_000, large])
    func contentThatArrivesDamagedIsSentAgain(size: Int) async throws {
        let server = try await JuiceFSGateway.shared.get()
        let weather = Weather()
        let faulty = try FaultyServer(before: server.endpoint) { request in
            let isBody = !request.body.isEmpty || Self.isPart(request)
            guard isBody, Self.isContent(request, of: "file") else { return .none }
            return weather.notePart() == 1 ? .error(400, "BadDigest") : .none
        }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            let bytes = SampleBytes.make(size, seed: 34)
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_CREAT)
            #expect(try await file.write(bytes) == 0)
            #expect(try await file.close() == 0)
            #expect(weather.parts >= 2)
            try await expectOnly("file", bytes, node, bucket)
        }
    }

    @Test func aPartThatIsNeverTakenAsItIsSentIsAnErrorAndTheDataFollows() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let weather = Weather()
        weather.set(bad: true)
        let faulty = try FaultyServer(before: server.endpoint) { request in
            weather.isBad && Self.isPart(request) && request.target.contains("partNumber=2&")
                ? .error(400, "BadDigest") : .none
        }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            let bytes = SampleBytes.make(Self.large, seed: 35)
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_CREAT)
            #expect(try await file.write(bytes) == 0)
            #expect(try await file.close() == EIO)
            try await expectKept("file", bytes, weather, node, mount, bucket)
        }
    }

    @Test func anUploadThatSomebodyElseAbortsIsBegunAgain() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let weather = Weather()
        let begun = Lock<Set<String>>([])
        let faulty = try FaultyServer(before: server.endpoint) { request in
            guard Self.isPart(request), let upload = request.target.components(separatedBy: "uploadId=").last else {
                return .none
            }
            let id = upload.components(separatedBy: "&")[0].removingPercentEncoding ?? ""
            _ = begun.withLock { $0.insert(id) }
            guard weather.notePart() == 2 else { return .none }
            let bucket = request.target.split(separator: "/")[0]
            Self.abort(id, in: server.admin(bucket: String(bucket)))
            return .none
        }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            let bytes = SampleBytes.make(Self.large, seed: 36)
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_CREAT)
            #expect(try await file.write(bytes) == 0)
            #expect(try await file.close() == 0)
            #expect(begun.withLock { $0.count } >= 2, "one upload was aborted, and another begun")
            try await expectOnly("file", bytes, node, bucket)
        }
    }

    /// On a thread of the server's.
    @available(*, noasync, message: "blocks its thread")
    private static func abort(_ upload: String, in bucket: S3Admin) {
        let isDone = OneShot<Bool>()
        Task {
            do {
                try await bucket.send(
                    S3Call(
                        "AbortMultipartUpload", .delete, key: "file", query: [(name: "uploadId", value: upload)],
                        verb: .change))
            } catch { Issue.record("\(error)") }
            isDone.set(true)
        }
        _ = isDone.wait()
    }

    @Test func aStoreThatDiesBetweenTwoPartsIsAnErrorAndTheUploadGoesOnLater() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let weather = Weather()
        let faulty = try FaultyServer(before: server.endpoint) { request in
            if Self.isPart(request), weather.notePart() == 3 { weather.set(bad: true) }
            return weather.isBad ? .refuse : .none
        }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            let bytes = SampleBytes.make(Self.large, seed: 37)
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_CREAT)
            #expect(try await file.write(bytes) == 0)
            #expect(try await file.close() == EIO)
            #expect(weather.parts >= 3)
            try await expectKept("file", bytes, weather, node, mount, bucket)
        }
    }

    /// The header of the file, or all behind its two headers.
    @Test(arguments: [0, 8192])
    func aDamagedJournalLosesNoAcknowledgedByte(offset: Int) async throws {
        let server = try await MotoServer.shared.get()
        let weather = Weather()
        let faulty = try FaultyServer(before: server.endpoint) { request in
            weather.isBad && request.method == "PUT" ? .busy() : .none
        }
        try await withWritableMount(faulty, of: server, ["--write-type", "asyncThrough"]) { node, mount, bucket in
            weather.set(bad: true)
            let bytes = SampleBytes.make(300_000, seed: 38)
            #expect(try await node.writing("\(mount)/file", bytes) == 0)
            let status = try await node.status()
            #expect(status.pending.map(\.path) == ["file"])
            // The mount first, so that it starts no successor.
            try await node.killWhole(status.mounts[0])
            try SignalWatch.send(SIGKILL, to: status.coordinator.pid)
            await becomes("the coordinator is gone") { !ChildProcess.isRunning(status.coordinator.pid) }
            try await node.shell(
                #"""
                journal=$(find "$1" -name journal.lmdb); size=$(stat -c %s "$journal")
                head -c $((size - $2)) /dev/zero | tr '\0' 'Z' | dd of="$journal" bs=4096 seek=$(($2 / 4096)) conv=notrunc status=none
                """#, node.directory.file("state"), "\(offset)")
            weather.set(bad: false)
            let behind = S3Admin(endpoint: faulty.endpoint, bucket: bucket.bucket, credentials: bucket.credentials)
            try await node.run("umount", "-l", mount)
            let again = Lock<String?>(nil)
            // LMDB may end a coordinator over what it finds, a few times.
            await becomes("it is mounted again") {
                let path = try await node.mount(behind, options: [])
                again.withLock { $0 = path }
                return true
            }
            let mounted = try #require(again.withLock { $0 })
            let found = try await node.status()
            #expect(found.conflicts == 1)
            #expect(found.notes.contains { $0.contains("journal") }, "\(found.notes)")
            struct Conflict: Decodable { let number: UInt64 }
            let listed = try await node.larder("conflicts", "--json")
            let conflicts = try JSONDecoder().decode([Conflict].self, from: Data(listed.output.utf8))
            let number = try #require(conflicts.first?.number, "\(listed.output)")
            let restored = try await node.larder("conflicts", "--restore", "\(number)", "--to", "saved")
            #expect(restored.code == 0, "\(restored.output)")
            let isThere = try await bucket.get("saved") == bytes
            #expect(isThere)
            #expect(try await node.writing("\(mounted)/after", bytes) == 0)
            #expect(try await node.larder("flush", mounted).code == 0)
            #expect(try await bucket.keys() == ["after", "saved"])
        }
    }
}
