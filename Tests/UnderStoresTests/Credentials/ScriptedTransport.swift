import Platform

@testable import UnderStores

/// Answers requests by a closure, and keeps them.
final class ScriptedTransport: HTTPTransport {
    private let answer: @Sendable (HTTPRequest) async throws(HTTPError) -> HTTPResponse
    private let log = Lock<[HTTPRequest]>([])

    init(_ answer: @escaping @Sendable (HTTPRequest) async throws(HTTPError) -> HTTPResponse) { self.answer = answer }

    /// Nobody answers anything.
    static var silent: ScriptedTransport {
        ScriptedTransport { (_) throws(HTTPError) in throw HTTPError(.connect, "cannot connect") }
    }

    var requests: [HTTPRequest] { log.withLock { $0 } }

    func send(_ request: HTTPRequest, bodyLimit: Int) async throws(HTTPError) -> HTTPResponse {
        log.withLock { $0.append(request) }
        return try await answer(request)
    }

    func stream(
        _ request: HTTPRequest, onHeaders: @escaping @Sendable (HTTPResponse) throws -> HTTPBodyDisposition,
        onBody: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws(HTTPError) -> HTTPResponse {
        throw HTTPError(.badRequest, "nothing is streamed here")
    }
}

extension HTTPResponse {
    static func text(_ text: String, status: Int = 200) -> HTTPResponse {
        HTTPResponse(status: status, body: Array(text.utf8))
    }
}

extension HTTPRequest {
    func header(_ name: String) -> String? {
        headers.first { $0.name.lowercased() == name.lowercased() }?.value
    }

    var bodyText: String { String(decoding: body ?? [], as: UTF8.self) }
}

/// A clock that stands still until it is moved.
final class StoppedClock: Sendable {
    /// 2026-11-22T12:00:00Z
    static let start: Int64 = 1_795_348_800
    private let seconds = Lock<Int64>(StoppedClock.start)
    var now: FileTime { FileTime(seconds: seconds.withLock { $0 }) }
    func advance(by count: Int64) { seconds.withLock { $0 += count } }
}

/// Files, variables and a clock in which credentials are looked for.
struct AWSWorld {
    let scratch: ScratchDirectory
    let clock = StoppedClock()
    var environment: [String: String] = [:]
    var processTimeout = Duration.seconds(60)

    init(config: String? = nil, credentials: String? = nil, _ environment: [String: String] = [:]) throws {
        scratch = try ScratchDirectory()
        self.environment = ["HOME": scratch.path, "AWS_EC2_METADATA_DISABLED": "true", "PATH": "/usr/bin:/bin"]
            .merging(environment) { $1 }
        if let config { try scratch.write(".aws/config", Array(config.utf8)) }
        if let credentials { try scratch.write(".aws/credentials", Array(credentials.utf8)) }
    }

    var surroundings: AWSSurroundings {
        let clock = clock
        return AWSSurroundings(
            environment: environment, now: { clock.now }, jitter: { 0.5 }, processTimeout: processTimeout)
    }

    func chain(
        profile: String? = nil, file: String? = nil, _ transport: any HTTPTransport = ScriptedTransport.silent
    ) -> AWSCredentialsChain {
        AWSCredentialsChain(in: surroundings, profile: profile, credentialsFile: file, transport: transport)
    }
}

/// The answer of AssumeRole and AssumeRoleWithWebIdentity.
func assumed(_ action: String, id: String, expiration: String = "2026-11-22T13:00:00Z") -> HTTPResponse {
    .text(
        """
        <\(action)Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><\(action)Result>
        <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser>
        <Credentials><AccessKeyId>\(id)</AccessKeyId><SecretAccessKey>secret/\(id)</SecretAccessKey>
        <SessionToken>token-\(id)</SessionToken><Expiration>\(expiration)</Expiration></Credentials>
        </\(action)Result></\(action)Response>
        """)
}

/// The error that `body` throws.
func storeError(_ body: () async throws -> Void) async -> StoreError? {
    do { try await body() } catch { return error as? StoreError }
    return nil
}
