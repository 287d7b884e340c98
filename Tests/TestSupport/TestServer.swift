import Glibc
import Logging
import Platform
import UnderStores

/// A real S3 server that a test has started on 127.0.0.1; it is gone when the object is, or the test process.
package protocol S3TestServer: Sendable {
    /// `http://127.0.0.1:port`
    var endpoint: String { get }
    /// A key that may do everything.
    var credentials: AWSCredentials { get }
}

extension S3TestServer {
    /// For making buckets and objects behind a store's back.
    package func admin(bucket: String) -> S3Admin {
        S3Admin(endpoint: endpoint, bucket: bucket, credentials: credentials)
    }

    /// A new bucket with a name of its own, beginning with `name`.
    package func makeBucket(_ name: String = "test") async throws -> S3Admin {
        let admin = admin(bucket: "\(name)-\(UInt32.random(in: 0 ... .max))")
        try await admin.createBucket()
        return admin
    }

    /// A store of that bucket, with this server's credentials.
    package func store(
        _ bucket: String, prefix: String = "", adjust: (inout S3Configuration) -> Void = { _ in }
    ) throws -> S3Store {
        var configuration = try S3Configuration(bucket: bucket, prefix: prefix)
        configuration.endpoint = endpoint
        adjust(&configuration)
        return try S3Store(
            configuration: configuration, credentials: FixedCredentials(credentials),
            transport: TestTransport.shared, logger: TestTransport.quietLogger)
    }
}

/// Credentials that never change; nil for none.
package struct FixedCredentials: AWSCredentialsProvider {
    private let fixed: AWSCredentials?
    package init(_ credentials: AWSCredentials?) { fixed = credentials }
    package func credentials() async throws(StoreError) -> AWSCredentials? { fixed }
    package func invalidate(_ rejected: AWSCredentials) async {}
}

/// The transport that tests share, so that they do not start threads each.
package enum TestTransport {
    package static let quietLogger: Logger = {
        var logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        logger.logLevel = .critical
        return logger
    }()

    package static let shared: any HTTPTransport = {
        do { return try CurlTransport(logger: quietLogger) } catch { preconditionFailure("libcurl: \(error)") }
    }()
}

/// A port of 127.0.0.1 on which nobody listens at the moment.
package func freePort() throws -> UInt16 { try TCPSocket.listen().port }

/// Polls `url` until it answers with any status in `statuses`, for 60 s at most, while `process` runs.
func waitUntilReady(_ url: String, statuses: Range<Int>, process: TestProcess) async throws {
    let began = MonotonicClock.now()
    let timeouts = HTTPTimeouts(connect: .seconds(2), firstByte: .seconds(10))
    while MonotonicClock.now() - began < 60_000_000_000 {
        guard process.isRunning else { throw TestSetupError("the server for \(url) has ended: \(process.output)") }
        let answer = try? await TestTransport.shared.send(
            HTTPRequest(.get, url, timeouts: timeouts), bodyLimit: 1 << 20)
        if let answer, statuses.contains(answer.status) { return }
        try await Task.sleep(for: .milliseconds(50))
    }
    throw TestSetupError("\(url) is not ready after 60 s: \(process.output)")
}
