import Commands
import Foundation
import Glibc
import Platform
import SystemPackage
import TestSupport
import Testing

@Suite struct ProgramTests {
    private func run(_ arguments: String...) async throws -> (code: Int32, data: String, notes: String) {
        try await onThread {
            let printed = Printed()
            let code = LarderProgram.run(["larder"] + arguments, output: printed.output())
            return (code, printed.data, printed.notes)
        }
    }

    @Test func versionAndHelpAreAnswers() async throws {
        let version = try await run("--version")
        #expect(version.code == 0 && version.data == "larder 0.1.0\n")
        let help = try await run("--help")
        #expect(help.code == 0 && help.notes.isEmpty)
        #expect(help.data.contains("status") && help.data.contains("s3://bucket/prefix"))
        let completion = try await run("--generate-completion-script", "bash")
        #expect(completion.code == 0 && completion.data.contains("complete"))
    }

    @Test func aWrongFlagIsOneLineAndTheUsageCode() async throws {
        let result = try await run("status", "--jsno")
        #expect(result.code == 64)
        #expect(result.notes.hasPrefix("larder: ") && result.notes.hasSuffix("see larder status --help\n"))
        #expect(result.notes.filter { $0 == "\n" }.count == 1)
        #expect(result.data.isEmpty)
    }

    @Test func aPathOutsideOfAnyMountSaysSo() async throws {
        let directory = try TemporaryDirectory()
        let result = try await run("stat", directory.path)
        #expect(result.code == 65)
        #expect(result.notes == "larder: \(directory.path) is not in a Larder mount: give a path below a mount point\n")
        let missing = try await run("ls", directory.path + "/none")
        #expect(missing.code == 66)
    }

    @Test func aPathIsResolvedByItsExtendedAttributes() throws {
        let directory = try TemporaryDirectory()
        let file = try directory.make("file", "x")
        // The temporary directory's file system has user attributes wherever the tests run: ext4, xfs, btrfs, overlay.
        try ExtendedAttribute.set("user.larder.coordinator", to: "/run/c.sock", of: file)
        let inode = try FileStatus(of: file).inode
        #expect(try NamespaceTarget(path: file) == NamespaceTarget(path: file, socket: "/run/c.sock", inode: inode))
        try ExtendedAttribute.set("user.larder.inode", to: "12345", of: file)
        #expect(try NamespaceTarget(path: file).inode == 12345)
    }
}

@Suite struct PlatformPartsTests {
    @Test func theMountTableIsParsed() throws {
        let entries = Platform.MountTable.parse(
            """
            22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
            60 22 0:50 / /mnt/a\\040b rw,nosuid,nodev,relatime - fuse.larder s3://bucket ro,user_id=0
            broken line

            """)
        #expect(entries.count == 2)
        #expect(entries[1].mountPoint == "/mnt/a b")
        #expect(entries[1].type == "fuse.larder")
        #expect(entries[1].source == "s3://bucket")
        #expect(entries[1].device == "0:50")
        #expect(entries[1].options.contains("user_id=0") && entries[1].options.contains("nosuid"))
        #expect(Platform.MountTable.entry(at: "/proc")?.type == "proc")
    }

    @Test func aChildGetsItsDescriptorsEnvironmentAndDirectory() async throws {
        let (reading, writing) = try Descriptor.pipe()
        let pid = try ChildProcess.start(
            "/bin/sh", arguments: ["sh", "-c", "echo \"$WORD $PWD $(ls /proc/self/fd | wc -l)\" >&3; exit 7"],
            environment: ["WORD": "larder", "PATH": "/bin:/usr/bin"], descriptors: .init(status: writing),
            newSession: true,
            directory: "/")
        let (code, text) = try await onThread { () -> (Int32, String) in
            let code = ChildProcess.wait(for: pid)
            var bytes = [UInt8](repeating: 0, count: 200)
            let count = Glibc.read(reading.raw, &bytes, 200)
            return (code, String(decoding: bytes.prefix(max(0, count)), as: UTF8.self))
        }
        #expect(code == 7)
        // 0, 1, 2, 3 and the directory that ls reads; its standard output is the pipe of $(…).
        #expect(text == "larder / 5\n")
        #expect(!ChildProcess.isRunning(pid))
        withExtendedLifetime(writing) {}
    }

    @Test func aRunningProcessIsSeen() throws {
        #expect(ChildProcess.isRunning(getpid()))
        #expect(ChildProcess.startTime(of: getpid()) == ChildProcess.startTime(of: getpid()))
        #expect(ChildProcess.startTime(of: 0x7fff_fff0) == nil)
    }
}
