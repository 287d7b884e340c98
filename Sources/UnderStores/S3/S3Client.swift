import Logging
import Platform

/// What `S3Client` takes from the world besides the network; tests replace it.
package struct S3Environment: Sendable {
    /// The time of day, for signatures.
    package var now: @Sendable () -> FileTime = { FileTime.now() }
    /// Nanoseconds of a clock that does not go back, for retry budgets.
    package var elapsed: @Sendable () -> UInt64 = { MonotonicClock.now() }
    /// Throws when the task is cancelled.
    package var sleep: @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) }
    /// 0..<1
    package var chance: @Sendable () -> Double = { Double.random(in: 0..<1) }

    package init() {}
}

/// Takes the body of a successful answer as it arrives, over all repetitions of one call.
///
/// All but `problem` is called on the transport's thread, one at a time.
protocol S3BodyConsumer: Sendable {
    /// Throws to refuse an answer before any byte of it is used.
    func begin(_ response: HTTPResponse) throws -> HTTPBodyDisposition
    func receive(_ bytes: UnsafeRawBufferPointer) throws
    /// After an answer or a refusal: nil when the body is complete and right.
    func problem() -> S3BodyProblem?
}

enum S3BodyProblem: Sendable {
    /// The store's fault; another try may go better.
    case suspicious(StoreError)
    case fatal(StoreError)
}

/// Sends the calls of one bucket: addresses and signs them, repeats what may go better next time, and learns the
/// bucket's region and the store's clock from its answers.
final class S3Client: Sendable {
    /// Bytes of an error document, or of another small answer.
    static let documentLimit = 64 << 10
    /// How often a call is sent when the answers break the protocol: more would hardly help, and costs as much as a
    /// body.
    private static let suspiciousAttempts = 3

    let configuration: S3Configuration
    let meter = StoreMeter()
    private let provider: any AWSCredentialsProvider
    private let transport: any HTTPTransport
    private let environment: S3Environment
    private let logger: Logger
    private let learned: Lock<Learned>
    private let allowance: Lock<RetryAllowance>

    private struct Learned {
        var region: String
        var endpoint: S3Endpoint
        /// Seconds to add to this machine's clock to have the store's.
        var clockOffset: Int64 = 0
    }

    init(
        configuration: S3Configuration, credentials: any AWSCredentialsProvider, transport: any HTTPTransport,
        environment: S3Environment, logger: Logger
    ) throws(StoreError) {
        self.configuration = configuration
        provider = credentials
        self.transport = transport
        self.environment = environment
        self.logger = logger
        allowance = Lock(RetryAllowance(now: environment.elapsed()))
        let region = configuration.region ?? "us-east-1"
        learned = Lock(Learned(region: region, endpoint: try S3Endpoint(configuration, region: region)))
    }

    /// The region that requests are signed for now.
    var region: String { learned.withLock { $0.region } }

    /// Sends `call` until there is an answer that is the caller's to judge: success, 404, 412 or 416.
    ///
    /// - Parameters:
    ///   - consumer: takes the body; nil collects a small one into the answer.
    ///   - policy: instead of the configuration's.
    ///   - call: made anew for each sending.
    func perform(
        _ consumer: (any S3BodyConsumer)? = nil, policy: RetryPolicy? = nil, call: @Sendable () -> S3Call
    ) async throws(StoreError) -> HTTPResponse {
        var effort = Effort(policy: policy ?? configuration.retry, began: environment.elapsed())
        while true {
            effort.attempts += 1
            let call = call()
            let credentials = configuration.anonymous ? nil : try await provider.credentials()
            let sent = learned.withLock { $0 }
            let judge = S3Judge(
                bucket: configuration.bucket, origin: sent.endpoint.origin, region: sent.region,
                source: credentials?.source)
            var (response, verdict) = await send(
                call, to: sent, credentials: credentials, consumer: consumer, judge: judge)
            if case .unexplained = verdict {
                verdict = await explain(call, to: sent, credentials: credentials, judge: judge)
            }
            if case .answer = verdict, let response {
                allowance.withLock { $0.reward() }
                return response
            }
            meter.countError()
            try await react(to: verdict, sent: sent, credentials: credentials, effort: &effort)
        }
    }

    /// How hard one call was tried.
    private struct Effort {
        let policy: RetryPolicy
        let began: UInt64
        var attempts = 0
        var suspicious = 0
        var triedRegion = false
        var triedClock = false
        var triedCredentials = false
    }

    private func send(
        _ call: S3Call, to learned: Learned, credentials: AWSCredentials?, consumer: (any S3BodyConsumer)?,
        judge: S3Judge
    ) async -> (HTTPResponse?, S3Verdict) {
        meter.countRequest(call.verb)
        let now = environment.now()
        let time = CivilTime(FileTime(seconds: now.seconds + learned.clockOffset))
        let request = call.request(
            to: learned.endpoint, region: learned.region, credentials: credentials, time: time,
            timeouts: configuration.timeouts)
        do {
            guard let consumer else {
                let answer = try await transport.send(request, bodyLimit: call.answerLimit)
                meter.countBytes(answer.body.count)
                let response = judge.settled(answer, to: call)
                return (response, judge.verdict(on: response, to: call))
            }
            let response = try await transport.stream(
                request,
                onHeaders: { response in
                    guard response.isSuccess else { return .collect(limit: Self.documentLimit) }
                    return try consumer.begin(response)
                },
                onBody: { [meter] bytes in
                    meter.countBytes(bytes.count)
                    try consumer.receive(bytes)
                })
            if response.isSuccess, let problem = consumer.problem() { return (nil, problem.verdict) }
            return (response, judge.verdict(on: response, to: call))
        } catch {
            if error.kind == .refused, let consumer {
                // A consumer may end a transfer early because it has all it wants.
                guard let problem = consumer.problem() else { return (HTTPResponse(status: 200), .answer) }
                return (nil, problem.verdict)
            }
            return (nil, judge.verdict(on: error, to: call))
        }
    }

    /// A HEAD has failed without saying why: the same GET, for one byte, fails with an error document.
    private func explain(
        _ call: S3Call, to learned: Learned, credentials: AWSCredentials?, judge: S3Judge
    ) async -> S3Verdict {
        var question = call
        question.method = .get
        question.verb = .get
        question.headers.append(("Range", "bytes=0-0"))
        let (_, verdict) = await send(
            question, to: learned, credentials: credentials, consumer: Discard(), judge: judge)
        guard case .answer = verdict else { return verdict }
        return .suspicious(
            StoreError(
                .protocolViolation,
                "\(judge.origin) refuses a HEAD but answers the same GET: \(call.key?.description.printable ?? "")"))
    }

    private struct Discard: S3BodyConsumer {
        struct Enough: Error {}
        func begin(_ response: HTTPResponse) throws -> HTTPBodyDisposition { throw Enough() }
        func receive(_ bytes: UnsafeRawBufferPointer) {}
        func problem() -> S3BodyProblem? { nil }
    }
}

extension S3BodyProblem {
    fileprivate var verdict: S3Verdict {
        switch self {
        case .suspicious(let error): .suspicious(error)
        case .fatal(let error): .fail(error)
        }
    }
}

extension S3Client {
    /// Prepares the next sending, or throws why there is none.
    private func react(
        to verdict: S3Verdict, sent: Learned, credentials: AWSCredentials?, effort: inout Effort
    ) async throws(StoreError) {
        switch verdict {
        case .answer: break
        case .fail(let error): throw error
        case .unexplained: throw StoreError(.accessDenied, "the store refused a request without saying why")
        case .retry(let error, let after): try await wait(after, or: error, effort: effort)
        case .suspicious(let error):
            effort.suspicious += 1
            guard effort.suspicious < Self.suspiciousAttempts else { throw error }
            try await wait(nil, or: error, effort: effort)
        case .region(let region, let error):
            guard !effort.triedRegion else { throw error }
            effort.triedRegion = true
            let endpoint = try S3Endpoint(configuration, region: region)
            learned.withLock {
                $0.region = region
                $0.endpoint = endpoint
            }
            logger.info("bucket \(configuration.bucket) is in region \(region)")
        case .clock(let server, let error):
            guard let server else { throw error }
            let offset = server.seconds - environment.now().seconds
            guard !effort.triedClock else {
                throw StoreError(
                    error.kind, "\(error.message): this machine's clock is \(abs(sent.clockOffset)) s off; set it right"
                )
            }
            effort.triedClock = true
            learned.withLock { $0.clockOffset = offset }
            logger.warning("this machine's clock is \(abs(offset)) s off the clock of \(sent.endpoint.origin)")
        case .credentials(let error):
            guard !effort.triedCredentials, let credentials else { throw error }
            effort.triedCredentials = true
            await provider.invalidate(credentials)
        }
    }

    private func wait(_ retryAfter: Duration?, or error: StoreError, effort: Effort) async throws(StoreError) {
        let now = environment.elapsed()
        let elapsed = Duration.nanoseconds(Int64(clamping: now - effort.began))
        let delay = effort.policy.delay(
            afterAttempt: effort.attempts, elapsed: elapsed, retryAfter: retryAfter, chance: environment.chance())
        guard let delay, allowance.withLock({ $0.take(now: now) }) else {
            guard effort.attempts > 1 else { throw error }
            throw StoreError(error.kind, "\(error.message) (tried \(effort.attempts) times)")
        }
        meter.countRetry()
        logger.debug("\(error.message); trying again in \(delay)")
        do { try await environment.sleep(delay) } catch {
            throw StoreError(.cancelled, "a request to \(configuration.bucket) was cancelled")
        }
    }
}
