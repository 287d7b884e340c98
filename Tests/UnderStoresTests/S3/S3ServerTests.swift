import Platform
import TestSupport
import Testing
import UnderStores

@Suite struct S3OnRealServers {
    /// Names that need care in URLs, signatures and XML, all valid in both servers.
    static func strangeNames(_ count: Int, seed: UInt64) -> [ByteString] {
        var random = SeededGenerator(seed: seed)
        let pieces = [
            " ", "+", "%", "%20", "&", "&amp;", "<", ">", "\"", "'", "=", "?", "#", "ü", "u\u{308}", "日本", "😀", "~",
            "*", "(", "!", "@", "$", ",", ";", "[", "^", "`", "{", "|", "x", "0",
        ]
        return (0..<count).map { index in
            let middle = (0..<Int.random(in: 1...5, using: &random)).map { _ in
                pieces.randomElement(using: &random) ?? ""
            }
            return ByteString("n\(index)" + middle.joined() + "e")
        }
    }

    @Test func fiveThousandStrangeNamesAreListedAndFound() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        var names = Self.strangeNames(5000, seed: 5)
        names[0] = "tab\tand\u{1}control"
        try await bucket.put(names.map { ByteString("d/") + $0 }, "x")
        let store = try server.store(bucket.bucket, prefix: "d")
        let (found, pages) = try await entries(store.list(""))
        #expect(Set(found.map(\.name)) == Set(names) && found.count == names.count)
        #expect(pages.count >= 5 && pages.allSatisfy { $0.entries.count <= 1256 })
        for entry in found.prefix(3) + found.suffix(100) {
            #expect(try await store.lookup(entry.name)?.version == entry.attributes.version, "\(entry.name)")
        }
        for name in names.prefix(20) { #expect(try await store.bytes(name, 0..<1) == [120], "\(name)") }
    }

    @Test func keysThatCannotBeNamedAreCounted() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        let long = ByteString(String(repeating: "l", count: 256))
        try await bucket.put(["a//b", "a/./c", "a/../d", "a/ok", "a/..", ByteString("a/") + long], "x")
        let (found, pages) = try await entries(server.store(bucket.bucket).list("a"))
        #expect(found.map(\.name) == ["ok"] && pages.map(\.unnameable).reduce(0, +) == 5)
    }

    @Test func metadataOfS3fsAndRcloneBecomesAttributes() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        try await bucket.put(
            "f", "data",
            headers: [
                ("x-amz-meta-mode", "33152"), ("x-amz-meta-uid", "12"), ("x-amz-meta-gid", "34"),
                ("x-amz-meta-mtime", "1500000000.5"),
            ])
        try await bucket.put("l", "to/the target", headers: [("x-amz-meta-mode", "41471")])
        try await bucket.put("olddir", "", headers: [("Content-Type", "application/x-directory")])
        let store = try server.store(bucket.bucket)
        let file = try #require(try await store.lookup("f"))
        #expect(file.permissions == 0o600 && file.uid == 12 && file.gid == 34)
        #expect(file.modified == FileTime(seconds: 1_500_000_000, nanoseconds: 500_000_000))
        #expect(try await store.lookup("l")?.kind == .symbolicLink)
        #expect(try await store.readLink("l") == "to/the target")
        #expect(try await caughtStoreError { try await store.readLink("f") }.kind == .invalid)
        #expect(try await store.lookup("olddir")?.kind == .directory)
        #expect(try await entries(store.list("olddir")).entries.isEmpty)
    }

    @Test func unknownBucketOnMoto() async throws {
        let server = try await MotoServer.shared.get()
        let store = try server.store("there-is-no-such-bucket")
        #expect(try await caughtStoreError { try await store.check() }.kind == .notFound)
        #expect(try await caughtStoreError { try await store.lookup("x") }.kind == .notFound)
    }

    // MARK: The gateway checks signatures.

    @Test func signedRequestsForStrangeNamesAreAccepted() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let bucket = try await server.makeBucket()
        let names = Self.strangeNames(60, seed: 9) + ["line\nbreak", "tab\tname"]
        for name in names { try await bucket.put(ByteString("dir with space/") + name, name.bytes) }
        let store = try server.store(bucket.bucket)
        let found = try await entries(store.list("dir with space")).entries
        #expect(Set(found.map(\.name)) == Set(names))
        for entry in found {
            let path = ByteString("dir with space/") + entry.name
            let looked = try #require(try await store.lookup(path), "\(entry.name)")
            #expect(looked.version == entry.attributes.version && looked.size == entry.attributes.size, "\(entry.name)")
            #expect(try await store.bytes(path, 0..<looked.size, expecting: looked.version) == entry.name.bytes)
        }
        #expect(try await store.lookup("dir with space")?.kind == .directory)
        #expect(try await store.lookup("dir") == nil)
    }

    @Test func wrongSecretsAndAnonymousCallersAreRefused() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let bucket = try await server.makeBucket()
        try await bucket.put("o", "x")
        var configuration = try S3Configuration(bucket: bucket.bucket)
        configuration.endpoint = server.endpoint
        for (id, secret, expected) in [
            (server.credentials.accessKeyID, "wrong", "secret access key"), ("nobody", "wrong", "are not accepted"),
        ] {
            let wrong = FixedCredentials(AWSCredentials(accessKeyID: id, secretAccessKey: secret, source: "a test"))
            let store = try S3Store(
                configuration: configuration, credentials: wrong, transport: TestTransport.shared,
                logger: TestTransport.quietLogger)
            for error in [
                try await caughtStoreError { try await store.lookup("o") },
                try await caughtStoreError { try await store.bytes("o", 0..<1) },
                try await caughtStoreError { try await entries(store.list("")) },
                try await caughtStoreError { try await store.check() },
            ] {
                #expect(
                    error.kind == .accessDenied && error.message.contains(expected) && error.message.contains("a test"))
            }
        }
        let anonymous = try server.store(bucket.bucket) { $0.anonymous = true }
        let error = try await caughtStoreError { try await anonymous.bytes("o", 0..<1) }
        #expect(error.kind == .accessDenied && error.message.contains("anonymous"))
    }

    @Test func aWrongClockIsGotOverOnARealServer() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let bucket = try await server.makeBucket()
        try await bucket.put("o", "hello")
        var configuration = try S3Configuration(bucket: bucket.bucket)
        configuration.endpoint = server.endpoint
        var environment = S3Environment()
        environment.now = { FileTime(seconds: FileTime.now().seconds - 7200) }
        let store = try S3Store(
            configuration: configuration, credentials: FixedCredentials(server.credentials),
            transport: TestTransport.shared, environment: environment, logger: TestTransport.quietLogger)
        #expect(try await store.bytes("o", 0..<5) == Array("hello".utf8))
    }

    @Test func rangesAndReplacedObjectsOnTheGateway() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let bucket = try await server.makeBucket()
        var random = SeededGenerator(seed: 21)
        let data = random.bytes(5_000_000)
        try await bucket.put("big", data)
        let store = try server.store(bucket.bucket)
        let version = try #require(try await store.lookup("big")?.version)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<40 {
                let start = UInt64.random(in: 0..<4_900_000, using: &random)
                let end = start + UInt64.random(in: 1...100_000, using: &random)
                group.addTask {
                    let bytes = try await store.bytes("big", start..<end, expecting: version)
                    #expect(bytes == Array(data[Int(start)..<Int(end)]))
                }
            }
            try await group.waitForAll()
        }
        try await bucket.put("big", "short now")
        #expect(
            try await caughtStoreError { try await store.bytes("big", 0..<4, expecting: version) }.kind
                == .versionChanged)
        #expect(
            try await caughtStoreError { try await store.bytes("big", 4_000_000..<4_000_001, expecting: version) }.kind
                == .versionChanged)
    }

    @Test func aServerThatComesBackIsUsedAgain() async throws {
        let first = try await JuiceFSGateway.start()
        let bucket = try await first.makeBucket()
        try await bucket.put("o", "hello")
        let store = try first.store(bucket.bucket) { $0.retry = RetryPolicy(attempts: 2, firstDelay: .milliseconds(1)) }
        #expect(try await store.bytes("o", 0..<5) == Array("hello".utf8))
        await first.stop()
        #expect(try await caughtStoreError { try await store.bytes("o", 0..<5) }.kind == .unavailable)
        let second = try await first.restarted()
        #expect(try await store.bytes("o", 0..<5) == Array("hello".utf8))
        await second.stop()
    }

    // MARK: rclone has faults of its own.

    @Test func rcloneIsReadCorrectly() async throws {
        let server = try await RcloneS3Server.start()
        var random = SeededGenerator(seed: 31)
        let data = random.bytes(300_000)
        try server.directory.write("lake/a/data", data)
        try server.directory.write("lake/b c.txt", "hello")
        let store = try server.store("lake")
        #expect(try await entries(store.list("")).entries.map(\.name).sorted() == ["a", "b c.txt"])
        let listed = try #require(try await entries(store.list("a")).entries.first)
        let looked = try #require(try await store.lookup("a/data"))
        #expect(listed.attributes.version == looked.version && looked.size == 300_000)
        for range in [0..<300_000, 1000..<1001, 299_000..<300_000, 0..<1] as [Range<UInt64>] {
            let bytes = try await store.bytes("a/data", range, expecting: looked.version)
            #expect(bytes == Array(data[Int(range.lowerBound)..<Int(range.upperBound)]), "\(range)")
        }
        let changed = random.bytes(300_000)
        try server.directory.write("lake/a/data", changed)
        let error = try await caughtStoreError { try await store.bytes("a/data", 0..<10, expecting: looked.version) }
        #expect(error.kind == .versionChanged, "If-Match is ignored, the ETag gives it away")
        #expect(try await store.lookup("a")?.kind == .directory)
        #expect(try await store.lookup("absent") == nil)
        #expect(try await caughtStoreError { try await server.store("no-bucket").check() }.kind == .notFound)
    }

    @Test func rclonesEndlessListingIsAnErrorNotALoop() async throws {
        let server = try await RcloneS3Server.start()
        for index in 0..<1000 { try server.directory.write("lake/d\(index)/f", "x") }
        for index in 0..<1100 { try server.directory.write("lake/f\(index)", "x") }
        let store = try server.store("lake")
        let error = try await caughtStoreError { try await entries(store.list("")) }
        #expect(error.kind == .protocolViolation && error.message.contains("no progress"))
        #expect(store.counters.listRequests < 10)
    }
}
