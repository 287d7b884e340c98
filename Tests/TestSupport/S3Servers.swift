import Platform
import UnderStores

/// moto's S3 in memory: broad and lenient, checks no signature.
package final class MotoServer: S3TestServer {
    package let endpoint: String
    package let process: TestProcess
    package let credentials = AWSCredentials(accessKeyID: "moto", secretAccessKey: "moto-secret", source: "the test")

    /// One for all tests of this process that do not change it as a whole.
    package static let shared = SharedInstance { try await MotoServer.start() }

    package static func start() async throws -> MotoServer {
        let port = try freePort()
        let endpoint = "http://127.0.0.1:\(port)"
        let process = try await TestProcess.start(
            TestTools.path("python3"), ["-c", launcher, "-H", "127.0.0.1", "-p", "\(port)"],
            environment: ["MOTO_S3_CUSTOM_ENDPOINTS": endpoint])
        try await waitUntilReady("\(endpoint)/moto-api/", statuses: 200..<400, process: process)
        return MotoServer(endpoint: endpoint, process: process)
    }

    /// As S3 does, and moto does not: a key may have a line feed in it, and an ETag stays what it is when several threads ask
    /// for it at once (it is computed at the first question, from a buffer that all of them move).
    private static let launcher = """
        import sys
        from moto.moto_server.utilities import RegexConverter
        from moto.server import main
        plain = RegexConverter.__init__
        def any_byte(self, url_map, *items):
            plain(self, url_map, *items)
            self.regex = f"(?s:{self.regex})"
        RegexConverter.__init__ = any_byte
        from moto.s3.models import FakeKey
        tag = FakeKey.etag.fget
        def one_at_a_time(self):
            with self.lock:
                return tag(self)
        FakeKey.etag = property(one_at_a_time)
        main(sys.argv[1:])
        """

    private init(endpoint: String, process: TestProcess) {
        self.endpoint = endpoint
        self.process = process
    }

    package func stop() async { await process.stop() }
}

/// JuiceFS's gateway, which is MinIO's front end: checks signatures and clocks for real.
package final class JuiceFSGateway: S3TestServer {
    package let endpoint: String
    package let process: TestProcess
    package let credentials = AWSCredentials(
        accessKeyID: "larder-test", secretAccessKey: "larder-test-secret", source: "the test")
    private let directory: TemporaryDirectory

    package static let shared = SharedInstance { try await JuiceFSGateway.start() }

    package static func start() async throws -> JuiceFSGateway {
        let directory = try TemporaryDirectory()
        let program = try TestTools.path("juicefs")
        let database = "sqlite3://\(directory.path)/meta.db"
        try directory.makeDirectory("obj")
        try await TestProcess.run(
            program,
            [
                "format", "--storage", "file", "--bucket", "\(directory.path)/obj/", "--trash-days", "0", database,
                "test",
            ],
            environment: ["HOME": directory.path])
        return try await start(program: program, database: database, port: freePort(), directory: directory)
    }

    /// Starts it again after `stop()`, on the same port with the same objects.
    package func restarted() async throws -> JuiceFSGateway {
        let port = UInt16(endpoint.split(separator: ":").last ?? "") ?? 0
        return try await Self.start(
            program: TestTools.path("juicefs"), database: "sqlite3://\(directory.path)/meta.db", port: port,
            directory: directory)
    }

    private static func start(
        program: String, database: String, port: UInt16, directory: TemporaryDirectory
    ) async throws -> JuiceFSGateway {
        let process = try await TestProcess.start(
            program,
            [
                "gateway", "--multi-buckets", "--keep-etag", "--object-meta", "--object-tag", "--no-usage-report",
                "--cache-dir", "\(directory.path)/cache", database, "127.0.0.1:\(port)",
            ],
            environment: [
                "HOME": directory.path, "MINIO_ROOT_USER": "larder-test", "MINIO_ROOT_PASSWORD": "larder-test-secret",
            ])
        let endpoint = "http://127.0.0.1:\(port)"
        try await waitUntilReady("\(endpoint)/minio/health/live", statuses: 200..<300, process: process)
        return JuiceFSGateway(endpoint: endpoint, process: process, directory: directory)
    }

    private init(endpoint: String, process: TestProcess, directory: TemporaryDirectory) {
        self.endpoint = endpoint
        self.process = process
        self.directory = directory
    }

    package func stop() async { await process.stop() }
}

/// `rclone serve s3` over a plain directory, whose subdirectories are the buckets.
package final class RcloneS3Server: S3TestServer {
    package let endpoint: String
    package let process: TestProcess
    package let credentials = AWSCredentials(
        accessKeyID: "larder-test", secretAccessKey: "larder-test-secret", source: "the test")
    /// Change objects here behind the store's back.
    package let directory: TemporaryDirectory

    /// - Parameter directoryCacheTime: `0s` shows at once what changes behind its back; then its removals take seconds.
    package static func start(directoryCacheTime: String = "0s") async throws -> RcloneS3Server {
        let directory = try TemporaryDirectory()
        let port = try freePort()
        let process = try await TestProcess.start(
            TestTools.path("rclone"),
            [
                "serve", "s3", "--addr", "127.0.0.1:\(port)", "--auth-key", "larder-test,larder-test-secret",
                "--vfs-cache-mode", "off", "--dir-cache-time", directoryCacheTime, directory.path,
            ],
            environment: ["HOME": directory.path, "RCLONE_CONFIG": "/dev/null"])
        let endpoint = "http://127.0.0.1:\(port)"
        try await waitUntilReady(endpoint, statuses: 200..<500, process: process)
        return RcloneS3Server(endpoint: endpoint, process: process, directory: directory)
    }

    private init(endpoint: String, process: TestProcess, directory: TemporaryDirectory) {
        self.endpoint = endpoint
        self.process = process
        self.directory = directory
    }

    package func stop() async { await process.stop() }
}
