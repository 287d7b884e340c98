import Foundation
import Glibc
import Platform
import TestSupport
import Testing

@Suite struct ControlTests {
    @Test func theCommandsWorkOnPathsOfAMount() async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let tree = SampleTree.mixed()
            try await tree.upload(to: bucket)
            let mount = try await node.mount(bucket)
            let size = tree.files.values.reduce(0) { $0 + $1.count }

            let before = try await usage(node, "du", mount)
            #expect(before["files"] as? Int == tree.files.count)
            #expect(before["bytes"] as? Int == size)
            #expect(before["cachedBytes"] as? Int == 0)

            let loaded = try await object(node, "load", mount, "--json")
            #expect(loaded["files"] as? Int == tree.files.count)
            #expect(loaded["bytes"] as? Int == size)
            #expect(loaded["failures"] as? Int == 0)
            #expect(try await usage(node, "du", mount)["cachedBytes"] as? Int == size)

            let file = try await object(node, "stat", "\(mount)/data/size-131073", "--json")
            #expect(file["size"] as? Int == 131_073)
            #expect(file["cachedBytes"] as? Int == 131_073)
            #expect(file["kind"] as? String == "file")
            #expect((file["url"] as? String)?.contains("\(bucket.bucket)/data/size-131073") == true, "\(file)")
            #expect(file["volumePath"] as? String == "/data/size-131073")

            let listing = try await json(node, "ls", "\(mount)/data", "--json") as? [[String: Any]]
            let entries = try #require(listing?.first?["entries"] as? [[String: Any]])
            #expect(
                entries.compactMap { $0["name"] as? String } == [
                    "deep", "size-1048576", "size-131071", "size-131072", "size-131073", "size-3145745",
                ])
            let text = try await node.larder("ls", "\(mount)/data")
            #expect(text.output.contains("100%") && text.output.contains("deep/"), "\(text.output)")

            let before2 = try await node.status().requests("GET")
            try await node.run("diff", "-r", mount, mount)
            #expect(try await node.status().requests("GET") == before2, "all that was loaded is read from the cache")

            #expect(try await usage(node, "free", "\(mount)/data")["cachedBytes"] as? Int ?? 0 > 0)
            #expect(try await object(node, "stat", "\(mount)/data/size-131073", "--json")["cachedBytes"] as? Int == 0)
        }
    }

    @Test func syncShowsWhatChangedInTheStore() async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try await bucket.put("dir/old", "old")
            try await bucket.put("dir/changed", "before")
            let mount = try await node.mount(
                "s3://\(bucket.bucket)", "--endpoint", bucket.endpoint, "--metadata-ttl", "1h", "--negative-ttl", "1h")
            #expect(try await node.run("ls", "\(mount)/dir") == "changed\nold\n")
            #expect(try await node.run("cat", "\(mount)/dir/changed") == "before")
            await #expect(throws: (any Error).self) { try await node.run("cat", "\(mount)/dir/new") }
            try await bucket.put("dir/new", "new")
            try await bucket.put("dir/changed", "and after")
            try await bucket.delete("dir/old")
            #expect(try await node.larder("sync", mount).code == 0)
            #expect(try await node.run("ls", "\(mount)/dir") == "changed\nnew\n")
            #expect(try await node.run("cat", "\(mount)/dir/changed", "\(mount)/dir/new") == "and afternew")
        }
    }

    @Test func afterASyncEveryMountSeesTheChangeAtOnce() async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try await bucket.put("dir/file", "0")
            let source = "s3://\(bucket.bucket)"
            let options = ["--endpoint", bucket.endpoint, "--metadata-ttl", "1h", "--negative-ttl", "1h"]
            var mounts: [String] = []
            for _ in 0..<3 {
                let path = try node.makeMountPoint()
                #expect(try await node.larder(["mount", source, path] + options).code == 0)
                mounts.append(path)
            }
            for round in 1...10 {
                for mount in mounts {
                    #expect(try await node.run("cat", "\(mount)/dir/file") == "\(round - 1)")
                    #expect(try await node.outcome("cat", ["\(mount)/dir/new-\(round)"]).code == 1)
                }
                try await bucket.put("dir/file", "\(round)")
                try await bucket.put(ByteString("dir/new-\(round)"), "new")
                #expect(try await node.larder("sync", mounts[0]).code == 0)
                for mount in mounts {
                    #expect(try await node.run("cat", "\(mount)/dir/new-\(round)") == "new")
                    #expect(try await node.run("cat", "\(mount)/dir/file") == "\(round)")
                }
            }
        }
    }

    @Test func aStoppedMountDoesNotHoldUpASyncAndIsNamed() async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try await bucket.put("dir/file", "before")
            let options = ["--endpoint", bucket.endpoint, "--metadata-ttl", "1h"]
            let running = try await node.mount("s3://\(bucket.bucket)", options[0], options[1], options[2], options[3])
            let stopped = try await node.mount("s3://\(bucket.bucket)", options[0], options[1], options[2], options[3])
            for mount in [running, stopped] { #expect(try await node.run("cat", "\(mount)/dir/file") == "before") }
            let pid = try #require(try await node.status().mounts.first { $0.mountpoint == stopped }).pid
            try await bucket.put("dir/file", "and after")
            try SignalWatch.send(SIGSTOP, to: pid)
            let result = try await node.larder("sync", running)
            let seen = try? await node.run("cat", "\(running)/dir/file")
            try SignalWatch.send(SIGCONT, to: pid)
            #expect(result.code == 69, "\(result.output)")
            #expect(result.output.contains(stopped) && result.output.contains("pid \(pid)"), "\(result.output)")
            #expect(!result.output.contains("\(running) (pid"), "\(result.output)")
            #expect(result.output.filter { $0 == "\n" }.count == 1, "\(result.output)")
            #expect(seen == "and after")
            #expect(try await node.larder("sync", running).code == 0)
            #expect(try await node.run("cat", "\(stopped)/dir/file") == "and after")
        }
    }

    @Test func aLoadSaysThatFilesAreReadInPlace() async throws {
        try await withNode { node in
            try SampleTree.mixed().write(to: node.directory, below: "source")
            let mount = try await node.mount(node.directory.file("source"))
            let result = try await node.larder("load", mount)
            #expect(result.code == 0)
            #expect(result.output.contains("\(SampleTree.mixed().files.count) files"), "\(result.output)")
            #expect(result.output.contains("read in place"), "\(result.output)")
        }
    }

    @Test func storeTestChecksARealServer() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try await SampleTree.mixed().upload(to: bucket)
            let result = try await node.larder(
                "store", "test", "s3://\(bucket.bucket)", "--endpoint", bucket.endpoint, "--json")
            #expect(result.code == 0, "\(result.output)")
            let reports = try #require(
                try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [[String: Any]])
            #expect(reports[0]["failed"] as? Int == 0)
            #expect(reports[0]["passed"] as? Int ?? 0 >= 5)
        }
    }

    @Test func theDoctorFindsWhatIsWrongWithAStore() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode { node in
            let bucket = try await server.makeBucket()
            let arguments = ["doctor", "s3://\(bucket.bucket)", "--endpoint", bucket.endpoint, "--json"]
            let healthy = try await node.larder(arguments, environment: LarderNode.credentials(of: server))
            #expect(healthy.code == 0, "\(healthy.output)")
            let sick = try await node.larder(
                arguments, environment: ["AWS_ACCESS_KEY_ID": "larder-test", "AWS_SECRET_ACCESS_KEY": "wrong"])
            #expect(sick.code == 69)
            #expect(sick.output.contains("failure") && sick.output.contains("secret"), "\(sick.output)")
            #expect(!sick.output.contains("wrong\""))
        }
    }

    private func json(_ node: LarderNode, _ arguments: String...) async throws -> Any {
        let result = try await node.larder(arguments)
        guard result.code == 0 else {
            throw TestSetupError("larder \(arguments) ended with \(result.code): \(result.output)")
        }
        // What comes before the array is progress, on standard error.
        let start = result.output.firstIndex(of: "[") ?? result.output.startIndex
        return try JSONSerialization.jsonObject(with: Data(result.output[start...].utf8))
    }

    private func object(_ node: LarderNode, _ command: String, _ path: String, _ flag: String) async throws -> [String:
        Any]
    {
        try #require(try await (json(node, command, path, flag) as? [[String: Any]])?.first)
    }

    private func usage(_ node: LarderNode, _ command: String, _ path: String) async throws -> [String: Any] {
        try await object(node, command, path, "--json")
    }
}
