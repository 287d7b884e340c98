import Platform
import TestSupport
import Testing

@testable import UnderStores

/// A store before a faulty server. Its waits take no time, and only they count for its budgets, unless that clock is
/// frozen.
func impatientStore(
    _ server: FaultyServer, bucket: String = "lake", credentials: any AWSCredentialsProvider = FixedCredentials(nil),
    now: @escaping @Sendable () -> FileTime = { FileTime.now() }, waits: Lock<[Duration]> = Lock([]),
    isFrozen: Bool = false,
    adjusting adjust: (inout S3Configuration) -> Void = { _ in }
) throws -> S3Store {
    var configuration = try S3Configuration(bucket: bucket)
    configuration.endpoint = server.endpoint
    configuration.timeouts = HTTPTimeouts(connect: .seconds(60), firstByte: .seconds(60), stall: .seconds(60))
    adjust(&configuration)
    var environment = S3Environment()
    environment.now = now
    environment.sleep = { duration in
        try Task.checkCancellation()
        waits.withLock { $0.append(duration) }
    }
    environment.elapsed = { isFrozen ? 0 : waits.withLock { $0.reduce(.zero, +) }.nanoseconds }
    return try S3Store(
        configuration: configuration, credentials: credentials, transport: TestTransport.shared,
        environment: environment, logger: TestTransport.quietLogger)
}

/// The `StoreError` that `body` throws.
func caughtStoreError(_ body: () async throws -> some Any) async throws -> StoreError {
    do {
        let value = try await body()
        throw TestSetupError("nothing was thrown, but returned: \(value)")
    } catch let error as StoreError { return error }
}

/// A bucket with the object `o` (200 kB), in a server that plays S3 well.
struct ScriptedBucket: Sendable {
    let data: [UInt8]
    let tag = "\"v1\""

    init() {
        var random = SeededGenerator(seed: 11)
        data = random.bytes(200_000)
    }

    func answer(_ request: FaultyServer.Request) -> Fault {
        if request.isListing {
            let contents =
                "<Contents><Key>o</Key><LastModified>2013-05-24T00:00:00Z</LastModified>"
                + "<ETag>&quot;v1&quot;</ETag><Size>\(data.count)</Size></Contents>"
            let isRoot = !request.target.contains("prefix=")
            let text = "<ListBucketResult><IsTruncated>false</IsTruncated>\(isRoot ? contents : "")</ListBucketResult>"
            return .answer(200, body: Array(text.utf8))
        }
        let stamp = [("ETag", tag), ("Last-Modified", "Fri, 24 May 2013 00:00:00 GMT")]
        if request.method == "HEAD" { return .answer(200, headers: stamp + [("Content-Length", "\(data.count)")]) }
        if let wanted = request.headers["if-match"], wanted != tag { return .error(412, "PreconditionFailed") }
        guard let range = request.headers["range"], let (first, last) = Self.bounds(range) else {
            return .answer(200, headers: stamp, body: data)
        }
        let part = ("Content-Range", "bytes \(first)-\(last)/\(data.count)")
        return .answer(206, headers: stamp + [part], body: Array(data[first...last]))
    }

    private static func bounds(_ text: String) -> (Int, Int)? {
        let parts = text.dropFirst("bytes=".count).split(separator: "-").compactMap { Int($0) }
        return parts.count == 2 ? (parts[0], parts[1]) : nil
    }
}

/// A fault that a repetition gets over, by name.
struct PassingFault: Sendable, CustomStringConvertible {
    let description: String
    /// Only a timeout ends it.
    var isSlow = false
    let make: @Sendable (Fault) -> Fault

    func shorten(_ configuration: inout S3Configuration) {
        if isSlow { configuration.timeouts = HTTPTimeouts(firstByte: .milliseconds(400), stall: .milliseconds(400)) }
    }

    static let all = [
        PassingFault(description: "reset before the answer") { _ in .refuse },
        PassingFault(description: "silence", isSlow: true) { _ in .silence },
        PassingFault(description: "503") { _ in .busy() },
        PassingFault(description: "503 with Retry-After") { _ in .busy(retryAfter: 3) },
        PassingFault(description: "500 without document") { _ in .answer(500) },
        PassingFault(description: "502 with HTML") { _ in .answer(502, body: Array("<html>".utf8)) },
        PassingFault(description: "429") { _ in .error(429, "TooManyRequests") },
        PassingFault(description: "504") { _ in .answer(504) },
    ]

    /// Those that spoil a body, which a HEAD does not have.
    static let ofBodies = [
        PassingFault(description: "truncated") { .truncate(of: $0, after: 100) },
        PassingFault(description: "truncated at once") { .truncate(of: $0, after: 0) },
        PassingFault(description: "reset in the body") { .reset(of: $0, after: 100) },
        PassingFault(description: "stalled in the body", isSlow: true) { .stall(of: $0, after: 100) },
        PassingFault(description: "400 RequestTimeout") { _ in .error(400, "RequestTimeout") },
    ]
}

@Suite struct S3Faults {
    private let bucket = ScriptedBucket()

    private func server(_ fault: PassingFault, on isMeant: @escaping @Sendable (FaultyServer.Request) -> Bool) throws
        -> FaultyServer
    {
        let bucket = bucket
        let done = Lock(0)
        return try FaultyServer { request in
            let good = bucket.answer(request)
            guard isMeant(request) else { return good }
            let count = done.withLock { count in
                count += 1
                return count
            }
            return count <= 2 ? fault.make(good) : good
        }
    }

    @Test(arguments: PassingFault.all + PassingFault.ofBodies)
    func aReadGetsOverEveryPassingFault(_ fault: PassingFault) async throws {
        let server = try server(fault) { !$0.isListing && $0.method == "GET" }
        let store = try impatientStore(server, adjusting: fault.shorten)
        let sink = RecordingSink(from: 1000)
        try await store.read("o", range: 1000..<150_000, expecting: ObjectVersion("\"v1\""), into: sink)
        #expect(sink.bytes == Array(bucket.data[1000..<150_000]))
        let counters = store.counters
        #expect(counters.retries == counters.errors && counters.getRequests == counters.retries + 1)
        #expect(fault.isSlow ? counters.retries >= 2 : counters.retries == 2)
    }

    @Test(arguments: PassingFault.all)
    func aLookupGetsOverEveryPassingFaultOfItsHead(_ fault: PassingFault) async throws {
        let server = try server(fault) { $0.method == "HEAD" }
        #expect(try await impatientStore(server, adjusting: fault.shorten).lookup("o")?.size == 200_000)
        #expect(server.count("HEAD") >= 3)
    }

    @Test(arguments: PassingFault.all + PassingFault.ofBodies)
    func aLookupGetsOverEveryPassingFaultOfItsListing(_ fault: PassingFault) async throws {
        let server = try server(fault) { $0.isListing }
        #expect(try await impatientStore(server, adjusting: fault.shorten).lookup("o")?.kind == .file)
    }

    @Test(arguments: PassingFault.all + PassingFault.ofBodies)
    func aListingGetsOverEveryPassingFault(_ fault: PassingFault) async throws {
        let server = try server(fault) { $0.isListing }
        let found = try await entries(impatientStore(server, adjusting: fault.shorten).list("")).entries
        #expect(found.map(\.name) == ["o"])
    }

    @Test func aTruncatedReadGoesOnWhereItStopped() async throws {
        let bucket = bucket
        let server = try FaultyServer { request in
            request.index == 0 ? .truncate(of: bucket.answer(request), after: 5000) : bucket.answer(request)
        }
        let store = try impatientStore(server)
        #expect(try await store.bytes("o", 0..<9000) == Array(bucket.data[0..<9000]))
        #expect(server.requests.map { $0.headers["range"] } == ["bytes=0-8999", "bytes=5000-8999"])
        #expect(
            server.requests.map { $0.headers["if-match"] } == [nil, "\"v1\""], "the rest must be of the same version")
    }

    @Test(arguments: ["not-the-version", ""])
    func aReplacedObjectIsNeverMixed(_ tag: String) async throws {
        let bucket = bucket
        let server = try FaultyServer { request in
            guard request.index > 0 else { return .truncate(of: bucket.answer(request), after: 5000) }
            // A store that ignores If-Match answers the new object with its own ETag.
            return .change(of: bucket.answer(request)) { response in
                response.headers = HTTPHeaders(
                    response.headers.fields.map {
                        $0.name == "ETag" ? ("ETag", "\"\(tag)\"") : $0
                    })
            }
        }
        let sink = RecordingSink(from: 0)
        let error = try await caughtStoreError {
            try await impatientStore(server).read("o", range: 0..<9000, expecting: nil, into: sink)
        }
        #expect(error.kind == .versionChanged && sink.bytes.count == 5000 && server.requests.count == 2)
    }

    /// Answers to `bytes=10-19` of an object of 200 000 bytes that must never be taken for it.
    static let lies: [(String, [(String, String)], Int, Int)] = [
        ("other range", [("Content-Range", "bytes 0-9/200000")], 206, 10),
        ("shorter range", [("Content-Range", "bytes 10-18/200000")], 206, 9),
        ("longer range", [("Content-Range", "bytes 10-20/200000")], 206, 11),
        ("over-long body", [("Content-Range", "bytes 10-19/200000")], 206, 12),
        ("short body", [("Content-Range", "bytes 10-19/200000")], 206, 8),
        ("no Content-Range", [], 206, 10), ("malformed Content-Range", [("Content-Range", "bytes x")], 206, 10),
        ("whole object that is too short", [], 200, 15), ("no content", [], 204, 0),
        ("partial without a part", [("Content-Range", "bytes */200000")], 206, 10),
    ]

    @Test(arguments: lies.indices)
    func anAnswerThatLiesNeverReachesTheSink(_ index: Int) async throws {
        let (name, headers, status, length) = Self.lies[index]
        let server = try FaultyServer { _ in
            .answer(status, headers: headers + [("ETag", "\"v1\"")], body: [UInt8](repeating: 7, count: length))
        }
        let store = try impatientStore(server)
        let sink = RecordingSink(from: 10)
        let error = try await caughtStoreError { try await store.read("o", range: 10..<20, expecting: nil, into: sink) }
        #expect(error.kind == .protocolViolation && sink.bytes.isEmpty, "\(name)")
        #expect(store.counters.getRequests == 3, "\(name) is asked again, but few times")
    }

    @Test func anAnswerWithoutVersionIsNotTaken() async throws {
        let server = try FaultyServer { _ in .answer(206, headers: [("Content-Range", "bytes 0-1/2")], body: [1, 2]) }
        #expect(
            try await caughtStoreError { try await impatientStore(server).bytes("o", 0..<2) }.kind == .protocolViolation
        )
    }

    @Test func withoutETagTheTimeAndSizeAreTheVersion() async throws {
        let bucket = bucket
        let later = Lock(false)
        let server = try FaultyServer { request in
            .change(of: bucket.answer(request)) { response in
                let date = later.withLock { $0 } ? "Sat, 25 May 2013 00:00:00 GMT" : "Fri, 24 May 2013 00:00:00 GMT"
                let kept = response.headers.fields.filter { !["ETag", "Last-Modified"].contains($0.name) }
                response.headers = HTTPHeaders(kept + [("Last-Modified", date)])
            }
        }
        let store = try impatientStore(server)
        let version = try #require(try await store.lookup("o")?.version)
        #expect(try await store.bytes("o", 5..<9, expecting: version) == Array(bucket.data[5..<9]))
        #expect(server.requests.last?.headers["if-unmodified-since"] == "Fri, 24 May 2013 00:00:00 GMT")
        later.withLock { $0 = true }
        #expect(
            try await caughtStoreError { try await store.bytes("o", 5..<9, expecting: version) }.kind == .versionChanged
        )
    }

    @Test func rangesAnsweredWith200AreUnderstood() async throws {
        let bucket = bucket
        for isWhole in [true, false] {
            let server = try FaultyServer { request in
                .change(of: bucket.answer(request)) { response in
                    response.status = 200
                    response.headers = HTTPHeaders([("ETag", "\"v1\"")])
                    if isWhole { response.body = bucket.data }
                }
            }
            let store = try impatientStore(server)
            #expect(try await store.bytes("o", 70_000..<90_000) == Array(bucket.data[70_000..<90_000]))
            #expect(try await store.bytes("o", 199_999..<200_000) == [bucket.data[199_999]])
            #expect(try await store.bytes("o", 0..<200_000) == bucket.data)
        }
    }

    @Test func aSinkThatFailsEndsTheReadAtOnce() async throws {
        struct Full: Error {}
        final class FullSink: ReadSink {
            func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws { throw Full() }
        }
        let bucket = bucket
        let server = try FaultyServer { bucket.answer($0) }
        let error = try await caughtStoreError {
            try await impatientStore(server).read("o", range: 0..<10, expecting: nil, into: FullSink())
        }
        #expect(error.kind == .sink && server.requests.count == 1)
    }

    @Test func aStoreThatKeepsFailingIsUnavailableAfterTheBudget() async throws {
        let server = try FaultyServer { _ in .busy() }
        let waits = Lock<[Duration]>([])
        let store = try impatientStore(server, waits: waits)
        let error = try await caughtStoreError { try await store.bytes("o", 0..<1) }
        #expect(error.kind == .unavailable && error.message.contains("SlowDown") && error.message.contains("10 times"))
        #expect(waits.withLock { $0.count } == 9 && server.requests.count == 10)
    }

    @Test func retryAfterIsHonoured() async throws {
        let bucket = bucket
        let server = try FaultyServer { $0.index == 0 ? .busy(retryAfter: 7) : bucket.answer($0) }
        let waits = Lock<[Duration]>([])
        _ = try await impatientStore(server, waits: waits).bytes("o", 0..<1)
        #expect(waits.withLock { $0 } == [.seconds(7)])
    }

    @Test func aStormOfFailuresEndsForWantOfRetries() async throws {
        let server = try FaultyServer { _ in .busy() }
        let store = try impatientStore(server, isFrozen: true)
        for _ in 0..<30 { _ = try? await store.bytes("o", 0..<1) }
        #expect(store.counters.retries == 200, "30 calls would make 270 retries; the store's allowance ends them")
        #expect(store.counters.getRequests == 230, "each call is still sent once")
    }

    @Test func cancellingAReadEndsIt() async throws {
        let answer = Fault.answer(
            206, headers: [("Content-Range", "bytes 0-9/10"), ("ETag", "e")], body: [UInt8](repeating: 0, count: 10))
        let server = try FaultyServer { _ in .stall(of: answer, after: 5) }
        let store = try impatientStore(server)
        let sink = RecordingSink(from: 0)
        let task = Task {
            try await caughtStoreError { try await store.read("o", range: 0..<10, expecting: nil, into: sink) }
        }
        while sink.bytes.count < 5 { await Task.yield() }
        task.cancel()
        #expect(try await task.value.kind == .cancelled)
    }
}
