import Foundation
import Glibc
import Platform
import TestSupport
import Testing

/// A laptop: no root anywhere but in fusermount3.
@Suite struct UnprivilegedTests {
    private static let user = "65534"  // nobody

    @Test func aUserWithoutPrivilegeMountsReadsAndUnmounts() async throws {
        let server = try await MotoServer.shared.get()
        let mode = try FileStatus(of: "/dev/fuse").mode & 0o7777
        // As udev's rules set it on every distribution; a bare container may have it for root only.
        if mode & 0o006 != 0o006 { chmod("/dev/fuse", 0o666) }
        defer { if mode & 0o006 != 0o006 { chmod("/dev/fuse", mode) } }
        // Below /tmp: the directories above must let another user pass.
        try await withNode(LarderNode.credentials(of: server), in: "/tmp") { node in
            let bucket = try await server.makeBucket()
            let tree = SampleTree.mixed()
            try await tree.upload(to: bucket)
            try tree.write(to: node.directory, below: "reference")
            let mount = try node.makeMountPoint()
            let program = node.directory.file("larder")
            try await node.run("cp", LarderNode.binary(), program)
            try await node.run("chown", "-R", "\(Self.user):\(Self.user)", node.directory.path)
            func asUser(_ program: String, _ arguments: String...) async throws -> LarderNode.Result {
                try await node.outcome(
                    "setpriv",
                    ["--reuid", Self.user, "--regid", Self.user, "--clear-groups", "--", program] + arguments)
            }
            let mounted = try await asUser(
                program, "mount", "s3://\(bucket.bucket)", mount, "--endpoint", bucket.endpoint)
            #expect(mounted.code == 0, "\(mounted.output)")
            for _ in 0..<2 {
                let same = try await asUser("/usr/bin/diff", "-r", node.directory.file("reference"), mount)
                #expect(same.code == 0, "\(same.output)")
            }
            let shown = try await asUser(program, "status", "--json")
            let status = try JSONDecoder().decode(NodeStatus.self, from: Data(shown.output.utf8))
            #expect(status.mounts.map(\.mountpoint) == [mount])
            // Only a privileged coordinator may register backing files.
            #expect(status.notes.contains { $0.contains("passthrough") && $0.contains("CAP_SYS_ADMIN") }, "\(status)")
            for process in node.processes() where process.name.hasPrefix("larder") {
                #expect(Machine.contents(of: "/proc/\(process.pid)/status")?.contains("Uid:\t65534\t65534") == true)
            }
            let unmounted = try await asUser(program, "umount", mount)
            #expect(unmounted.code == 0, "\(unmounted.output)")
            #expect(node.mounted().isEmpty)
            await becomes("the coordinator leaves after its last mount") { node.processes().isEmpty }
        }
    }
}
