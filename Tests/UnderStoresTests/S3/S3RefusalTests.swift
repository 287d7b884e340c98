import Platform
import TestSupport
import Testing

@testable import UnderStores

/// Gives one key after another; `invalidate` goes on to the next.
private final class ChangingCredentials: AWSCredentialsProvider {
    private let index = Lock(0)
    var given: Int { index.withLock { $0 } }
    func credentials() async throws(StoreError) -> AWSCredentials? {
        AWSCredentials(accessKeyID: "AK\(given)", secretAccessKey: "secret-\(given)", source: "the test's chain")
    }
    func invalidate(_ rejected: AWSCredentials) async {
        index.withLock { index in if rejected.accessKeyID == "AK\(index)" { index += 1 } }
    }
}

private let fixed = FixedCredentials(
    AWSCredentials(
        accessKeyID: "AK", secretAccessKey: "very-secret", sessionToken: "tok-secret", source: "profile \"lake\""))

@Suite struct S3Refusals {
    private let bucket = ScriptedBucket()

    @Test func refusalsNameActionBucketAndSourceButNoSecret() async throws {
        let server = try FaultyServer { _ in .error(403, "AccessDenied") }
        let store = try impatientStore(server, credentials: fixed)
        let read = try await caughtStoreError { try await store.bytes("d/o", 0..<1) }
        let list = try await caughtStoreError { try await entries(store.list("d")) }
        #expect(read.kind == .accessDenied && list.kind == .accessDenied)
        #expect(read.message.contains("s3:GetObject") && read.message.contains("s3://lake/d/o"))
        #expect(list.message.contains("s3:ListBucket") && list.message.contains("s3://lake"))
        for message in [read.message, list.message] {
            #expect(message.contains("profile \"lake\"") && message.contains("AccessDenied"))
            #expect(!message.contains("very-secret") && !message.contains("tok-secret") && !message.contains("\n"))
        }
        #expect(server.requests.count == 2, "a refusal is not repeated")
    }

    @Test func aHeadThatIsRefusedIsExplainedByAGet() async throws {
        let bucket = bucket
        let server = try FaultyServer { $0.isListing ? bucket.answer($0) : .error(403, "SignatureDoesNotMatch") }
        let error = try await caughtStoreError { try await impatientStore(server, credentials: fixed).lookup("o") }
        #expect(error.kind == .accessDenied && error.message.contains("secret access key"))
    }

    @Test func anObjectIsFoundWhereListingIsForbidden() async throws {
        let bucket = bucket
        let server = try FaultyServer { $0.isListing ? .error(403, "AccessDenied") : bucket.answer($0) }
        #expect(try await impatientStore(server).lookup("o")?.kind == .file)
    }

    @Test func unknownBucketIsToldByEveryCall() async throws {
        let server = try FaultyServer { _ in .error(404, "NoSuchBucket") }
        let store = try impatientStore(server)
        for error in [
            try await caughtStoreError { try await store.lookup("o") },
            try await caughtStoreError { try await store.lookup("") },
            try await caughtStoreError { try await entries(store.list("")) },
            try await caughtStoreError { try await store.bytes("o", 0..<1) },
            try await caughtStoreError { try await store.check() },
        ] {
            #expect(error.kind == .notFound && error.message.contains("no bucket \"lake\" at \(server.endpoint)"))
        }
    }

    @Test func redirectsAreNotFollowed() async throws {
        let other = try FaultyServer { _ in .answer(200) }
        let server = try FaultyServer { _ in .error(307, "TemporaryRedirect", headers: [("Location", other.endpoint)]) }
        let error = try await caughtStoreError { try await impatientStore(server).bytes("o", 0..<1) }
        #expect(error.kind == .invalid && other.requests.isEmpty)
    }

    @Test(arguments: ["ExpiredToken", "InvalidAccessKeyId", "InvalidToken"])
    func staleCredentialsAreRenewedOnce(_ code: String) async throws {
        let bucket = bucket
        let server = try FaultyServer { request in
            request.headers["authorization"]?.contains("AK0/") == true ? .error(400, code) : bucket.answer(request)
        }
        let credentials = ChangingCredentials()
        let store = try impatientStore(server, credentials: credentials)
        #expect(try await store.bytes("o", 3..<5) == Array(bucket.data[3..<5]))
        #expect(credentials.given == 1 && server.requests.count == 2)
        #expect(try await store.lookup("o")?.kind == .file)

        let hopeless = try FaultyServer { _ in .error(403, code) }
        let error = try await caughtStoreError {
            try await impatientStore(hopeless, credentials: ChangingCredentials()).bytes("o", 0..<1)
        }
        #expect(
            error.kind == .accessDenied && error.message.contains("the test's chain") && hopeless.requests.count == 2)
    }

    @Test func aHeadWithStaleCredentialsIsRenewedToo() async throws {
        let bucket = bucket
        let server = try FaultyServer { request in
            let isStale = request.headers["authorization"]?.contains("AK0/") == true && !request.isListing
            return isStale ? .error(400, "ExpiredToken") : bucket.answer(request)
        }
        #expect(try await impatientStore(server, credentials: ChangingCredentials()).lookup("o")?.size == 200_000)
    }

    /// Refusals of a request that was signed for another region, each as one kind of store words it.
    private static func wrongRegion(_ request: FaultyServer.Request, kind: Int) -> Fault {
        switch kind {
        case 0: .error(301, "PermanentRedirect", headers: [("x-amz-bucket-region", "eu-south-2")])
        case 1: .error(400, "AuthorizationHeaderMalformed", extra: "<Region>eu-south-2</Region>")
        case 2: .error(400, "IllegalLocationConstraintException", headers: [("x-amz-bucket-region", "eu-south-2")])
        default: .error(307, "TemporaryRedirect", headers: [("x-amz-bucket-region", "eu-south-2")])
        }
    }

    @Test(arguments: 0..<4)
    func theRegionIsLearnedFromTheFirstAnswer(_ kind: Int) async throws {
        let bucket = bucket
        let server = try FaultyServer { request in
            let isRight = request.headers["authorization"]?.contains("/eu-south-2/s3/") == true
            return isRight ? bucket.answer(request) : Self.wrongRegion(request, kind: kind)
        }
        let store = try impatientStore(server, credentials: fixed)
        #expect(try await store.lookup("o")?.kind == .file)
        #expect(store.region == "eu-south-2")
        let before = server.requests.count
        _ = try await store.bytes("o", 0..<1)
        #expect(server.requests.count == before + 1, "what was learned is used at once")
    }

    @Test func twoRegionsThatPointAtEachOtherAreAnError() async throws {
        let server = try FaultyServer { request in
            let region = request.headers["authorization"]?.contains("/one/") == true ? "two" : "one"
            return .error(301, "PermanentRedirect", headers: [("x-amz-bucket-region", region)])
        }
        let error = try await caughtStoreError {
            try await impatientStore(server, credentials: fixed).bytes("o", 0..<1)
        }
        #expect(error.kind == .invalid && server.requests.count == 2)
    }

    @Test(arguments: ["evil.example/#", "a b", "", "EU\u{0}", "x@y"])
    func whatIsNoRegionIsNotBelieved(_ region: String) async throws {
        let server = try FaultyServer { _ in
            .error(400, "AuthorizationHeaderMalformed", extra: "<Region>\(region)</Region>")
        }
        let store = try impatientStore(server, credentials: fixed)
        #expect(try await caughtStoreError { try await store.bytes("o", 0..<1) }.kind == .invalid)
        #expect(store.region == "us-east-1" && server.requests.count == 1)
    }

    @Test func messagesStayOnOneLine() async throws {
        let server = try FaultyServer { _ in .error(403, "Access\nDenied\r\u{85}" + String(repeating: "x", count: 5000))
        }
        let error = try await caughtStoreError { try await impatientStore(server).bytes("a\nb\u{2028}c", 0..<1) }
        #expect(error.message.allSatisfy { !$0.isNewline } && error.message.count < 1000)
    }

    private static let serverTime = "Fri, 24 May 2013 00:00:00 GMT"

    @Test(arguments: [-7200, 7200])
    func aWrongClockIsLearnedFromTheStore(_ skew: Int64) async throws {
        let bucket = bucket
        let server = try FaultyServer { request in
            request.headers["x-amz-date"] == "20130524T000000Z"
                ? bucket.answer(request) : .error(403, "RequestTimeTooSkewed", headers: [("Date", Self.serverTime)])
        }
        let now: @Sendable () -> FileTime = { FileTime(seconds: 1_369_353_600 + skew) }
        let store = try impatientStore(server, credentials: fixed, now: now)
        #expect(try await store.bytes("o", 0..<1) == [bucket.data[0]])
        #expect(try await store.bytes("o", 1..<2) == [bucket.data[1]])
        #expect(server.requests.count == 3, "only the first request was refused")
    }

    @Test func aClockThatCannotBeMadeToFitIsSaid() async throws {
        let server = try FaultyServer { _ in .error(403, "RequestTimeTooSkewed", headers: [("Date", Self.serverTime)]) }
        let store = try impatientStore(server, credentials: fixed, now: { FileTime(seconds: 1_369_353_600 - 5000) })
        let error = try await caughtStoreError { try await store.bytes("o", 0..<1) }
        #expect(
            error.kind == .accessDenied && error.message.contains("clock is 5000 s off") && server.requests.count == 2)
    }

    @Test func nobodyAtTheEndpoint() async throws {
        var configuration = try S3Configuration(bucket: "lake")
        let endpoint = "http://127.0.0.1:\(try freePort())"
        configuration.endpoint = endpoint
        let store = try S3Store(
            configuration: configuration, credentials: fixed, transport: TestTransport.shared,
            logger: TestTransport.quietLogger)
        let error = try await caughtStoreError { try await store.check() }
        #expect(error.kind == .unavailable && error.message.contains(endpoint))
        configuration.endpoint = "http://no-such-host.invalid"
        configuration.retry.attempts = 1
        let lost = try S3Store(
            configuration: configuration, credentials: fixed, transport: TestTransport.shared,
            logger: TestTransport.quietLogger)
        let unresolved = try await caughtStoreError { try await lost.check() }
        #expect(unresolved.kind == .unavailable && unresolved.message.contains("no-such-host.invalid"))
    }

    @Test func requestsCarryWhatTheConfigurationSays() async throws {
        let bucket = bucket
        let server = try FaultyServer { bucket.answer($0) }
        let key = try SSECustomerKey(base64: "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
        let store = try impatientStore(
            server, credentials: fixed,
            adjusting: {
                $0.requesterPays = true
                $0.sseCustomerKey = key
            })
        _ = try await store.lookup("o")
        _ = try await store.bytes("o", 0..<1)
        for request in server.requests {
            #expect(request.headers["x-amz-request-payer"] == "requester")
            #expect(request.headers["x-amz-security-token"] == "tok-secret")
            #expect(request.headers["authorization"]?.contains("AK/") == true)
            let algorithm = request.headers["x-amz-server-side-encryption-customer-algorithm"]
            #expect(algorithm == (request.isListing ? nil : "AES256"))
        }
        let anonymous = try impatientStore(server, credentials: fixed, adjusting: { $0.anonymous = true })
        _ = try await anonymous.lookup("o")
        #expect(server.requests.suffix(2).allSatisfy { $0.headers["authorization"] == nil })
    }

    @Test func identityKnowsNoCredentialAndNoRegion() async throws {
        var configuration = try S3Configuration(url: "s3://lake/a/b/")
        func identity() throws -> String {
            try S3Store(
                configuration: configuration, credentials: fixed, transport: TestTransport.shared,
                logger: TestTransport.quietLogger
            ).identity.text
        }
        #expect(try identity() == "s3://lake/a/b@https://s3.amazonaws.com")
        configuration.region = "eu-west-1"
        #expect(try identity() == "s3://lake/a/b@https://s3.amazonaws.com")
        configuration.endpoint = "HTTP://Host:80/"
        #expect(try identity() == "s3://lake/a/b@http://host")
    }
}
