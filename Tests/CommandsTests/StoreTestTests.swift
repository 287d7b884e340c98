import Commands
import Foundation
import Platform
import TestSupport
import Testing

@testable import UnderStores

/// `larder store test` on every kind of store: what it says, and that nothing of it stays.
@Suite struct StoreTestTests {
    private struct Report: Decodable {
        struct Check: Decodable {
            let name, outcome: String
            let detail: String?
        }
        struct Requirement: Decodable {
            let name: String
            let isMet: Bool
            let otherwise: String?
        }
        let writing: String
        let checks: [Check]
        let requirements: [Requirement]
        let passed, failed: Int

        var failures: [String] { checks.filter { $0.outcome == "failed" }.map { "\($0.name): \($0.detail ?? "")" } }
        func meets(_ name: String) -> Bool? { requirements.first { $0.name.hasPrefix(name) }?.isMet }
    }

    private func test(
        _ source: String, _ options: [(key: String, value: String?)] = [], stop: OneShot<Void> = OneShot(),
        onLine: @escaping @Sendable (String) -> Void = { _ in }, json: Bool = true
    ) async throws -> (code: Int32, text: String) {
        try await onThread {
            let text = Lock("")
            let output = Output(
                write: { line in
                    text.withLock { $0 += line }
                    onLine(line)
                }, note: { _ in })
            let invocation = try MountInvocation(source: source, mountPoint: "/", options: options)
            var code: Int32 = 0
            do {
                try StoreTest(namespace: try invocation.namespace(), json: json).run(output, stop: stop)
            } catch let failure as CommandFailure { code = failure.code }
            return (code, text.withLock { $0 })
        }
    }

    private func report(_ text: String) throws -> Report {
        try #require(try JSONDecoder().decode([Report].self, from: Data(text.utf8)).first)
    }

    private func options(_ server: some S3TestServer, _ directory: TemporaryDirectory) throws -> [(
        key: String, value: String?
    )] {
        let credentials = try directory.make(
            "credentials",
            """
            [default]
            aws_access_key_id = \(server.credentials.accessKeyID)
            aws_secret_access_key = \(server.credentials.secretAccessKey)

            """)
        return [("endpoint", server.endpoint), ("region", "us-east-1"), ("credentials-file", credentials)]
    }

    /// Every key of the bucket, markers included, and uploads under way.
    private func left(_ store: S3Store) async throws -> [ByteString] {
        var found: [ByteString] = []
        let listing = store.keys(under: "")
        while let page = try await listing.nextPage() { found += page.map(\.key) }
        found += (try? await store.uploads(under: "").map { $0.path + " (upload)" }) ?? []
        return found.sorted()
    }

    @Test func onMotoEverythingIsTestedAndNothingIsLeft() async throws {
        let (server, directory) = (try await MotoServer.shared.get(), try TemporaryDirectory())
        let bucket = try await server.makeBucket()
        let (code, text) = try await test("s3://\(bucket.bucket)/pre/fix", options(server, directory))
        let report = try report(text)
        // It answers the completion of an aborted upload with 500.
        #expect(code == 65 && report.failures.count == 1 && report.failures[0].hasPrefix("an aborted upload"))
        #expect(report.meets("PUT if absent") == true && report.meets("UploadPartCopy") == true)
        #expect(report.checks.contains { $0.name.hasPrefix("mode, owner") && $0.outcome == "passed" })
        #expect(try await left(server.store(bucket.bucket)).isEmpty)
    }

    @Test(arguments: ["", "/pre/fix"]) func onTheGatewayEverythingIsTestedAndNothingIsLeft(prefix: String) async throws
    {
        let (server, directory) = (try await JuiceFSGateway.shared.get(), try TemporaryDirectory())
        let bucket = try await server.makeBucket()
        let (code, text) = try await test("s3://\(bucket.bucket)\(prefix)", options(server, directory))
        let report = try report(text)
        #expect(code == 0 && report.failures.isEmpty, "\(report.failures)")
        #expect(
            report.meets("PUT if absent") == false && report.meets("a body that does not fit its Content-MD5") == true)
        let left = try await left(server.store(bucket.bucket))
        #expect(left.isEmpty, "\(left)")
    }

    @Test func onRcloneEverythingIsTestedAndNothingIsLeft() async throws {
        let (server, directory) = (try await RcloneS3Server.start(directoryCacheTime: "5m"), try TemporaryDirectory())
        let bucket = try await server.makeBucket()
        let (code, text) = try await test("s3://\(bucket.bucket)/pre", options(server, directory))
        let report = try report(text)
        #expect(code == 0 && report.failures.isEmpty, "\(report.failures)")
        #expect(report.meets("PUT if absent") == false && report.meets("UploadPartCopy") == false)
        await server.stop()
        // Objects are files there, and their prefixes directories.
        let files = FileManager.default.enumerator(atPath: server.directory.path)?.compactMap { $0 as? String } ?? []
        #expect(files.filter { $0 != bucket.bucket }.isEmpty, "\(files)")
    }

    @Test func aLocalDirectoryIsWrittenToAndNothingIsLeft() async throws {
        let directory = try TemporaryDirectory()
        _ = try directory.make("file", "content")
        let (code, text) = try await test(directory.path)
        let report = try report(text)
        #expect(code == 0 && report.failures.isEmpty && report.writing == "tested")
        #expect(report.checks.contains { $0.name.hasPrefix("an open file is written in place") })
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["file"])
    }

    @Test func readOnlyWritesNothingAndSaysSo() async throws {
        let (server, directory) = (try await JuiceFSGateway.shared.get(), try TemporaryDirectory())
        let bucket = try await server.makeBucket()
        let source = "s3://\(bucket.bucket)"
        let store = try server.store(bucket.bucket)
        try await bucket.put("object", "content")
        let (code, text) = try await test(source, try options(server, directory) + [("read-only", nil)], json: false)
        #expect(code == 0 && text.contains("writing was not tested (read-only)"))
        #expect(!text.contains("what the store enforces"))
        #expect(try await left(store) == ["object"])
    }

    @Test func aStoreThatRefusesToBeWrittenFailsOnceAndIsNotAskedOnAndOn() async throws {
        let (server, directory) = (try await JuiceFSGateway.shared.get(), try TemporaryDirectory())
        let bucket = try await server.makeBucket()
        try await bucket.put("object", "content")
        let refusing = try FaultyServer { request in
            request.method == "GET" || request.method == "HEAD" ? .error(404, "NoSuchKey") : .error(403, "AccessDenied")
        }
        var options = try options(server, directory)
        options[0].value = refusing.endpoint
        let (code, text) = try await test("s3://\(bucket.bucket)", options)
        #expect(code == 65)
        let writes = try report(text).checks.filter {
            $0.name == "what is enforced is found out without leaving anything"
        }
        #expect(writes.map(\.outcome) == ["failed"])
        #expect(
            try report(text).checks.last?.name == writes.first?.name, "it was asked on and on, or had to be cleared")
    }

    @Test(arguments: [20, 24, 28, 32, 36]) func whatIsInterruptedIsClearedAway(after count: Int) async throws {
        let (server, directory) = (try await JuiceFSGateway.shared.get(), try TemporaryDirectory())
        let bucket = try await server.makeBucket()
        let (stop, lines) = (OneShot<Void>(), Lock(0))
        let (code, text) = try await test(
            "s3://\(bucket.bucket)/pre", options(server, directory), stop: stop,
            onLine: { _ in
                let printed = lines.withLock { lines in
                    lines += 1
                    return lines
                }
                if printed == count { stop.set(()) }
            }, json: false)
        #expect(code == 130 && text.contains("passed"))
        #expect(try await left(server.store(bucket.bucket)).isEmpty)
    }
}
