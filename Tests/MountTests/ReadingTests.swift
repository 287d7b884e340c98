import Foundation
import Platform
import TestSupport
import Testing

/// The servers that a bucket is read from: one that is broad and lenient, one that checks signatures.
enum TestedServer: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case moto, gateway

    var testDescription: String { rawValue }

    func get() async throws -> any S3TestServer {
        switch self {
        case .moto: try await MotoServer.shared.get()
        case .gateway: try await JuiceFSGateway.shared.get()
        }
    }
}

@Suite struct ReadingTests {
    @Test(arguments: TestedServer.allCases)
    func aBucketReadsLikeADirectory(server: TestedServer) async throws {
        let server = try await server.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let tree = SampleTree.mixed()
            try await tree.upload(to: bucket)
            try tree.write(to: node.directory, below: "reference")
            let mount = try await node.mount(bucket)
            try await compare(node, mount, node.directory.file("reference"))
        }
    }

    @Test func aPrefixIsTheRootOfItsMount() async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try await SampleTree(["in": [1], "sub/in": [2]]).upload(to: bucket, below: "some/prefix")
            try await bucket.put("some/prefix-not", "x")
            try await bucket.put("outside", "x")
            let mount = try await node.mount("s3://\(bucket.bucket)/some/prefix/", "--endpoint", bucket.endpoint)
            #expect(
                try await node.run("find", mount, "-type", "f", "-printf", "%P\n").split(separator: "\n").sorted() == [
                    "in", "sub/in",
                ])
        }
    }

    @Test func aLocalDirectoryReadsLikeItself() async throws {
        try await withNode { node in
            try SampleTree.mixed().write(to: node.directory, below: "source")
            let source = node.directory.file("source")
            try FileManager.default.createSymbolicLink(atPath: "\(source)/link", withDestinationPath: "text.txt")
            try FileManager.default.createSymbolicLink(atPath: "\(source)/names/up", withDestinationPath: "../data")
            let mount = try await node.mount("file://\(source)")
            try await compare(node, mount, source)
            #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "\(mount)/names/up") == "../data")
            // Native metadata: modes, owners and times are the source's.
            let format = "%P %m %U %G %s %TY-%Tm-%Td %TT\n"
            let shown = try await node.run("find", mount, "-type", "f", "-printf", format).split(separator: "\n")
                .sorted()
            let real = try await node.run("find", source, "-type", "f", "-printf", format).split(separator: "\n")
                .sorted()
            #expect(shown == real)
        }
    }

    @Test func aNamespaceJoinsStoresUnderOneRoot() async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try await SampleTree(["a": [1], "sub/b": [2, 2]]).upload(to: bucket)
            try await SampleTree(["inner": [3]]).upload(to: bucket, below: "other")
            try SampleTree(["c": [4], "d/e": [5]]).write(to: node.directory, below: "local")
            try node.directory.write(
                "ns.yaml",
                """
                mounts:
                  - path: /lake
                    source: s3://\(bucket.bucket)
                    endpoint: \(bucket.endpoint)
                    uid: 1234
                    fileMode: "0640"
                  - path: /lake/nested/deep
                    source: s3://\(bucket.bucket)/other
                    endpoint: \(bucket.endpoint)
                  - path: /scratch
                    source: \(node.directory.file("local"))
                """)
            let mount = try await node.mount(node.directory.file("ns.yaml"))
            let files = try await node.run("find", mount, "-type", "f", "-printf", "%P\n").split(separator: "\n")
                .sorted()
            #expect(
                files == [
                    "lake/a", "lake/nested/deep/inner", "lake/other/inner", "lake/sub/b", "scratch/c", "scratch/d/e",
                ])
            #expect(try await node.run("stat", "-c", "%u %a", "\(mount)/lake/a") == "1234 640\n")
            #expect(try await node.run("ls", "\(mount)/lake/nested") == "deep\n")
        }
    }

    @Test(arguments: TestedServer.allCases)
    func gitClonesFromARepositoryInABucket(server: TestedServer) async throws {
        let server = try await server.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let work = node.directory.file("work")
            let git = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
            try node.directory.makeDirectory("work")
            try SampleTree.mixed().write(to: node.directory, below: "work")
            for command in [["init", "-q", work], ["-C", work, "add", "."], ["-C", work, "commit", "-qm", "one"]] {
                try await TestProcess.run(
                    TestTools.path("git"), git + command, environment: ["HOME": node.directory.path])
            }
            let bare = node.directory.file("repository.git")
            try await node.run("git", "clone", "-q", "--bare", work, bare)
            // A store has no empty directories, and git wants refs/ to be there: packed refs leave it empty.
            try node.directory.write("repository.git/refs/heads/.keep", "")
            let bucket = try await server.makeBucket()
            try await SampleTree.read(bare).upload(to: bucket, below: "repository.git")
            let mount = try await node.mount(bucket)
            let clone = node.directory.file("clone")
            try await node.run("git", "clone", "-q", "\(mount)/repository.git", clone)
            try await node.run("git", "-C", clone, "fsck", "--full", "--strict")
            try await node.run("diff", "-r", "--exclude=.git", work, clone)
            let heads = try await (
                node.run("git", "-C", work, "rev-parse", "HEAD"), node.run("git", "-C", clone, "rev-parse", "HEAD")
            )
            #expect(heads.0 == heads.1)
        }
    }

    /// `ls -lR`, `cat`, `cp -r`, `grep -r` and `diff -r` see the same on the mount as in the reference.
    private func compare(_ node: LarderNode, _ mount: String, _ reference: String) async throws {
        try await node.run("diff", "-r", reference, mount)
        let listing = try await node.run("ls", "-lAR", mount).split(separator: "\n").filter { $0.hasPrefix("-") }
        let expected = try await node.run("ls", "-lAR", reference).split(separator: "\n").filter { $0.hasPrefix("-") }
        #expect(listing.count == expected.count)
        let sizes = { (lines: [Substring]) in lines.map { $0.split(separator: " ")[4] }.sorted() }
        #expect(sizes(listing) == sizes(expected))
        #expect(try await node.run("cat", "\(mount)/text.txt").contains("needle in a haystack"))
        let copy = node.directory.file("copy")
        try await node.run("cp", "-r", mount, copy)
        try await node.run("diff", "-r", reference, copy)
        let grep = try await node.run("grep", "-rl", "needle", mount).split(separator: "\n").sorted()
        #expect(grep == ["\(mount)/names/-dash", "\(mount)/text.txt"])
    }
}
