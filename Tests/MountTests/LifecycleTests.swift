import Foundation
import Glibc
import Platform
import TestSupport
import Testing

@Suite struct LifecycleTests {
    private func node(_ body: (LarderNode, String) async throws -> Void) async throws {
        try await withNode { node in
            try SampleTree.mixed().write(to: node.directory, below: "source")
            try await body(node, node.directory.file("source"))
        }
    }

    @Test func nothingIsLeftAfterTheLastUmount() async throws {
        try await node { node, source in
            let mount = try await node.mount(source)
            #expect(node.mounted() == [mount])
            let status = try await node.status()
            #expect(status.mounts.map(\.mountpoint) == [mount])
            try await node.umount(mount)
            #expect(node.mounted().isEmpty)
            #expect(!ChildProcess.isRunning(status.mounts[0].pid), "umount waits for the mount's process")
            await becomes("the coordinator leaves after its last mount") { node.processes().isEmpty }
            #expect(access(node.socket, F_OK) != 0)
            let result = try await node.larder("status")
            #expect(result.code == 69)
        }
    }

    @Test func mountsThatStartAtOnceShareOneCoordinator() async throws {
        try await node { node, source in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 { group.addTask { try await node.mount(source) } }
                try await group.waitForAll()
            }
            let status = try await node.status()
            #expect(status.mounts.count == 4)
            // Each mount has a supervisor and a process, and all have one coordinator.
            #expect(node.processes().count == 9)
        }
    }

    @Test func aCoordinatorThatIsLeavingIsReplaced() async throws {
        try await node { node, source in
            let first = try await node.mount(source)
            let pid = try await node.status().coordinator.pid
            try await node.umount(first)
            // It may have left by itself.
            try? SignalWatch.send(SIGTERM, to: pid)
            let second = try await node.mount(source)
            #expect(try await node.run("cat", "\(second)/text.txt").contains("needle"))
        }
    }

    @Test(arguments: [SIGTERM, SIGINT, SIGHUP])
    func aSignalUnmounts(signal: Int32) async throws {
        try await node { node, source in
            let path = try node.makeMountPoint()
            let process = try await node.start(["mount", source, path, "--foreground"])
            await becomes("the mount is usable") { try await node.status().mounts.count == 1 }
            #expect(try await node.run("cat", "\(path)/text.txt").contains("needle"))
            process.kill(signal)
            #expect(await process.wait() == 0)
            #expect(node.mounted().isEmpty)
            #expect(
                process.output.contains(" info mounted ") && process.output.contains(" info unmounted "),
                "\(process.output)")
        }
    }

    @Test func aForeignUmountEndsTheProcess() async throws {
        try await node { node, source in
            let mount = try await node.mount(source)
            try await node.run("umount", mount)
            await becomes("the mount's process has ended, and its coordinator after it") { node.processes().isEmpty }
        }
    }

    @Test func umountNamesWhoKeepsTheMountBusy() async throws {
        try await node { node, source in
            let mount = try await node.mount(source)
            let reader = try await TestProcess.start(TestTools.path("tail"), ["-f", "\(mount)/text.txt"])
            await becomes("tail has opened the file") { reader.output.contains("needle") }
            let refused = try await node.larder("umount", mount)
            #expect(refused.code == 75)
            #expect(
                refused.output.hasPrefix("larder: \(mount) is busy: in use by process \(reader.pid) (tail)"),
                "\(refused.output)")
            let lazily = try await node.larder("umount", "--lazy", mount)
            #expect(lazily.code == 0)
            #expect(node.mounted().isEmpty)
            await reader.stop()
        }
    }

    @Test func umountRemovesADeadMount() async throws {
        try await node { node, source in
            let mount = try await node.mount(source)
            try await node.killWhole(try await node.status().mounts[0])
            try await node.umount(mount)
            #expect(node.mounted().isEmpty)
        }
    }

    @Test func mountEightFindsTheHelper() async throws {
        try await node { node, source in
            let binary = try LarderNode.binary()
            try FileManager.default.createSymbolicLink(
                atPath: node.directory.file("mount.fuse.larder"), withDestinationPath: binary)
            let path = try node.makeMountPoint()
            let helper = try await TestProcess.start(
                node.directory.file("mount.fuse.larder"),
                [source, path, "-o", "rw,_netdev,x-systemd.automount,noatime"],
                environment: [
                    "XDG_RUNTIME_DIR": node.directory.file("run"), "XDG_STATE_HOME": node.directory.file("state"),
                    "XDG_CACHE_HOME": node.directory.file("cache"), "LARDER_TEST_NODE": node.directory.path,
                ])
            #expect(await helper.wait() == 0, "\(helper.output)")
            #expect(node.mounted() == [path])
            #expect(try await node.run("cat", "\(path)/text.txt").contains("needle"))
        }
    }

    @Test func cacheOptionsThatComeTooLateAreNoted() async throws {
        try await node { node, source in
            try await node.mount(source, "--cache-size", "1GiB")
            let path = try node.makeMountPoint()
            let result = try await node.larder(
                "mount", source, path, "--cache-size", "2GiB", "--cache-dir", node.directory.file("other"))
            #expect(result.code == 0)
            #expect(result.output.contains("--cache-dir, --cache-size has no effect"), "\(result.output)")
            #expect(try await node.status().cache.tiers.first?.quotaBytes == 1 << 30)
        }
    }

    @Test func aConfiguredCoordinatorServesAMount() async throws {
        try await node { node, source in
            let socket = node.directory.file("run/node.sock")
            let port = try freePort()
            try node.directory.write(
                "coordinator.yaml",
                """
                socket: \(socket)
                stateDirectory: \(node.directory.file("cache/state"))
                cache:
                  tiers:
                    - {kind: disk, path: \(node.directory.file("cache/blocks")), size: 1GiB}
                http: {listen: "127.0.0.1:\(port)"}
                """)
            let coordinator = try await node.start(["coordinator", "--config", node.directory.file("coordinator.yaml")])
            await becomes("the coordinator listens") { access(socket, F_OK) == 0 }
            let mount = try await node.mount(source, "--coordinator", socket)
            #expect(try await node.run("cat", "\(mount)/text.txt").contains("needle"))
            #expect(try await node.run("curl", "-sf", "http://127.0.0.1:\(port)/healthz").isEmpty == false)
            try await node.umount(mount)
            coordinator.kill(SIGTERM)
            #expect(await coordinator.wait() == 0, "\(coordinator.output)")
        }
    }
}
