import Foundation
import TestSupport
import Testing

/// What a user gets wrong: one line that says what failed and what to do, the right exit code, and nothing left behind.
@Suite struct BadInputTests {
    private func expectFailure(
        _ node: LarderNode, _ arguments: [String], environment: [String: String] = [:], code: Int32, _ words: String...,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let result = try await node.larder(arguments, environment: environment)
        #expect(result.code == code, "\(result.output)", sourceLocation: sourceLocation)
        #expect(result.output.hasPrefix("larder: "), "\(result.output)", sourceLocation: sourceLocation)
        #expect(result.output.filter { $0 == "\n" }.count == 1, "\(result.output)", sourceLocation: sourceLocation)
        for word in words { #expect(result.output.contains(word), "\(result.output)", sourceLocation: sourceLocation) }
        #expect(node.mounted().isEmpty, sourceLocation: sourceLocation)
    }

    @Test func wrongCredentialsAreNamedWithoutTheSecret() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode { node in
            let bucket = try await server.makeBucket()
            let secret = "a-very-wrong-secret"
            let path = try node.makeMountPoint()
            let environment = ["AWS_ACCESS_KEY_ID": "larder-test", "AWS_SECRET_ACCESS_KEY": secret]
            try await expectFailure(
                node, ["mount", "s3://\(bucket.bucket)", path, "--endpoint", bucket.endpoint], environment: environment,
                code: 77, "secret access key", "environment")
            #expect(!node.logs().contains(secret))
            let unknown = ["AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": secret]
            try await expectFailure(
                node, ["mount", "s3://\(bucket.bucket)", path, "--endpoint", bucket.endpoint], environment: unknown,
                code: 77, "credentials")
            try await expectFailure(
                node, ["mount", "s3://\(bucket.bucket)", path, "--endpoint", bucket.endpoint, "--anonymous"], code: 77,
                "anonymous")
            try await expectFailure(
                node, ["mount", "s3://\(bucket.bucket)", path, "--endpoint", bucket.endpoint], code: 77, "credentials")
        }
    }

    @Test(arguments: TestedServer.allCases)
    func anUnknownBucketIsNamed(server: TestedServer) async throws {
        let server = try await server.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            try await expectFailure(
                node, ["mount", "s3://no-such-bucket-here", node.makeMountPoint(), "--endpoint", server.endpoint],
                code: 66,
                "there is no bucket \"no-such-bucket-here\"", server.endpoint)
        }
    }

    @Test func aServerThatIsDownIsNamed() async throws {
        try await withNode(["AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"]) { node in
            let endpoint = "http://127.0.0.1:\(try freePort())"
            try await expectFailure(
                node, ["mount", "s3://bucket", node.makeMountPoint(), "--endpoint", endpoint], code: 69, "127.0.0.1",
                "nobody answers")
        }
    }

    @Test func aHostThatDoesNotExistIsNamed() async throws {
        try await withNode(["AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"]) { node in
            try await expectFailure(
                node,
                ["mount", "s3://bucket", node.makeMountPoint(), "--endpoint", "http://no-such-host.invalid:9000"],
                code: 69,
                "no-such-host.invalid", "cannot be resolved")
        }
    }

    @Test func aCertificateThatNobodyTrustsIsNamedWithItsRemedy() async throws {
        try await withNode(["AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"]) { node in
            let (key, certificate) = (node.directory.file("key.pem"), node.directory.file("ca.pem"))
            try await node.run(
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost", "-addext",
                "subjectAltName=DNS:localhost")
            let port = try freePort()
            let server = try await TestProcess.start(
                TestTools.path("openssl"),
                ["s_server", "-accept", "127.0.0.1:\(port)", "-cert", certificate, "-key", key, "-www"],
                directory: node.directory.path)
            await becomes("the server accepts") { server.output.contains("ACCEPT") }
            let arguments = [
                "mount", "s3://bucket", try node.makeMountPoint(), "--endpoint", "https://localhost:\(port)",
            ]
            try await expectFailure(node, arguments, code: 69, "https://localhost:\(port)", "certificate", "--ca-file")
            // With the certificate the connection is trusted, and what is wrong is that no S3 server answers on it.
            let trusting = try await node.larder(arguments + ["--ca-file", certificate])
            #expect(trusting.code == 69 && !trusting.output.contains("certificate"), "\(trusting.output)")
            #expect(trusting.output.filter { $0 == "\n" }.count == 1, "\(trusting.output)")
            await server.stop()
        }
    }

    @Test func aClockThatIsWrongIsSaid() async throws {
        try await withNode(["AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"]) { node in
            let server = try FaultyServer { _ in
                .error(403, "RequestTimeTooSkewed", headers: [("Date", "Fri, 24 May 2013 00:00:00 GMT")])
            }
            try await expectFailure(
                node, ["mount", "s3://bucket", node.makeMountPoint(), "--endpoint", server.endpoint], code: 77, "clock",
                " s off")
        }
    }

    @Test func aWrongMountPointIsExplained() async throws {
        try await withNode { node in
            try node.directory.write("source/file", "x")
            try node.directory.write("full/file", "x")
            let source = node.directory.file("source")
            try await expectFailure(node, ["mount", source, "/nowhere/mnt"], code: 66, "/nowhere/mnt", "mkdir -p")
            try await expectFailure(
                node, ["mount", source, node.directory.file("full/file")], code: 64, "not a directory")
            try await expectFailure(
                node, ["mount", source, node.directory.file("full")], code: 64, "not empty", "nonempty")
            try await expectFailure(node, ["mount", source, "\(source)"], code: 78, "contain one another")
            #expect(node.processes().isEmpty, "no coordinator is started for nothing")
            let mount = try await node.mount(source)
            let again = try await node.larder("mount", source, mount)
            #expect(again.code == 64)
            #expect(again.output.contains("already") && again.output.contains("larder umount"), "\(again.output)")
            #expect(node.mounted() == [mount])
            try await expectFailureKeepingMounts(
                node, ["umount", node.directory.file("full")], code: 66, "nothing is mounted")
            try await expectFailureKeepingMounts(node, ["umount", "/proc"], code: 64, "is not a Larder mount")
        }
    }

    private func expectFailureKeepingMounts(_ node: LarderNode, _ arguments: [String], code: Int32, _ word: String)
        async throws
    {
        let result = try await node.larder(arguments)
        #expect(result.code == code && result.output.contains(word), "\(result.output)")
    }

    @Test func aWrongFileIsReportedWithItsLine() async throws {
        try await withNode { node in
            let path = try node.makeMountPoint()
            let file = node.directory.file("ns.yaml")
            try node.directory.write("ns.yaml", "mounts:\n  - path: /a\n    source: s3://b\n    endpoint: here\n")
            try await expectFailure(node, ["mount", file, path], code: 78, "\(file):4: mounts[0].endpoint")
            try node.directory.write("ns.yaml", "mounts:\n  - path: \"/a\n")
            try await expectFailure(node, ["mount", file, path], code: 78, "\(file):", "YAML")
            try await expectFailure(node, ["mount", node.directory.file("none.yaml"), path], code: 66, "none.yaml")
            try node.directory.write("c.yaml", "cache:\n  tiers:\n    - {path: /x, size: much}\n")
            try await expectFailure(
                node, ["coordinator", "--config", node.directory.file("c.yaml")], code: 78, ":3: cache.tiers[0].size")
            try await expectFailure(node, ["coordinator"], code: 64, "--config")
        }
    }

    @Test func aSourceThatIsNotThereIsNamed() async throws {
        try await withNode { node in
            try await expectFailure(
                node, ["mount", "file:///no/such/directory", node.makeMountPoint()], code: 66, "/no/such/directory")
            try await expectFailure(
                node, ["mount", "s3://bucket", node.makeMountPoint(), "--coordinator", "/no/such.sock"], code: 69,
                "/no/such.sock")
        }
    }

    @Test func aCacheDirectoryThatCannotBeUsedIsNamed() async throws {
        try await withNode { node in
            try node.directory.write("source/file", "x")
            let source = node.directory.file("source")
            // In use by another coordinator.
            try await withNode { other in
                try other.directory.write("source/file", "x")
                let cache = other.directory.file("shared")
                try await other.mount(other.directory.file("source"), "--cache-dir", cache)
                try await expectFailure(
                    node, ["mount", source, node.makeMountPoint(), "--cache-dir", cache], code: 73, cache, "another")
            }
            // Somebody else's files.
            try node.directory.write("foreign/blocks/thesis.tex", "x")
            try await expectFailure(
                node, ["mount", source, node.makeMountPoint(), "--cache-dir", node.directory.file("foreign")], code: 73,
                node.directory.file("foreign"), "not a Larder cache")
            #expect(FileManager.default.fileExists(atPath: node.directory.file("foreign/blocks/thesis.tex")))
        }
    }

    @Test(arguments: [("ro", 73 as Int32, "read-only"), ("size=64k", 73, "no space")])
    func aCacheDirectoryOnAReadOnlyOrTinyDiskIsNamed(option: String, code: Int32, word: String) async throws {
        try await withNode { node in
            try node.directory.write("source/file", "x")
            try node.directory.makeDirectory("disk")
            let disk = node.directory.file("disk")
            try await node.run("mount", "-t", "tmpfs", "-o", option, "tmpfs", disk)
            let result = try await node.larder(
                "mount", node.directory.file("source"), node.makeMountPoint(), "--cache-dir", disk)
            try await node.run("umount", "-l", disk)
            #expect(result.code == code, "\(result.output)")
            #expect(result.output.lowercased().contains(word) && result.output.contains(disk), "\(result.output)")
        }
    }
}
