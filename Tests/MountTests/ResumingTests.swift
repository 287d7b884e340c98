import Foundation
import Glibc
import Platform
import TestSupport
import Testing

/// A mount goes on when its process dies: its callers see a pause, and no error.
///
/// `$LARDER_RESUME_KILLS` kills so often instead of a few times.
@Suite(.serialized) struct ResumingTests {
    private static let kills = getenv("LARDER_RESUME_KILLS").flatMap { Int(String(cString: $0)) } ?? 6

    private static func pattern(_ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ ($0 >> 8)) }
    }

    enum Kind: CaseIterable { case local, object, objectAsynchronous }

    /// A mount with what `SteadyPrograms` read.
    private func withSteadyMount(
        _ kind: Kind, _ body: (LarderNode, String) async throws -> Void
    ) async throws {
        switch kind {
        case .local:
            try await withNode { node in
                try node.directory.makeDirectory("source/many")
                try node.directory.write("source/steady.bin", Self.pattern(SteadyPrograms.size))
                for index in 0..<SteadyPrograms.entries { try node.directory.write("source/many/f\(index)", "") }
                try await body(node, try await node.mount(node.directory.file("source")))
            }
        case .object, .objectAsynchronous:
            let server = try await JuiceFSGateway.shared.get()
            let type = kind == .object ? "cacheThrough" : "asyncThrough"
            try await withWritableMount(server, ["--write-type", type]) { node, mount, bucket in
                try await bucket.put("steady.bin", Self.pattern(SteadyPrograms.size))
                for index in 0..<SteadyPrograms.entries / 10 { try await bucket.put(ByteString("many/f\(index)"), "") }
                try await body(node, mount)
            }
        }
    }

    /// Starts the programs, calls `body` while they run, and expects that none has failed.
    private func expectSteady(
        _ node: LarderNode, _ mount: String, _ names: [String] = SteadyPrograms.names, _ body: () async throws -> Void
    ) async throws {
        try node.directory.write("steady.py", SteadyPrograms.program)
        var processes: [TestProcess] = []
        for name in names {
            processes.append(
                try await node.startProgram(
                    "python", [node.directory.file("steady.py"), name, mount, node.directory.file("stop")]))
        }
        try await Task.sleep(for: .milliseconds(500))
        do { try await body() } catch { Issue.record("\(error)") }
        try node.directory.write("stop", "")
        for (name, process) in zip(names, processes) {
            let code = await process.wait()
            #expect(code == 0, "\(name): \(process.output)\n\(node.logs())")
        }
    }

    /// The mount of a node, once its process has attached.
    private func mount(of node: LarderNode, after generation: UInt64) async throws -> NodeStatus.Mount? {
        var found: NodeStatus.Mount?
        await becomes("process \(generation + 1) of the mount is attached\n\(node.logs())") {
            found = try await node.status().mounts.first { !$0.waiting && $0.generation > generation }
            return found != nil
        }
        return found
    }

    @Test(arguments: Kind.allCases)
    func callersOfAMountWhoseProcessIsKilledSeeNoError(kind: Kind) async throws {
        try await withSteadyMount(kind) { node, path in
            try await expectSteady(node, path) {
                var generation: UInt64 = 0
                for kill in 0..<Self.kills {
                    guard let mount = try await self.mount(of: node, after: generation) else { return }
                    #expect(mount.resumable && mount.generation == UInt64(kill + 1))
                    generation = mount.generation
                    try await Task.sleep(for: .milliseconds(200 + 130 * (kill % 5)))
                    try SignalWatch.send(SIGKILL, to: mount.pid)
                }
                _ = try await self.mount(of: node, after: generation)
            }
        }
    }

    @Test(arguments: [false, true])
    func aMountWhoseProcessAndCoordinatorAreKilledGoesOn(coordinatorFirst: Bool) async throws {
        try await withSteadyMount(.object) { node, path in
            try await expectSteady(node, path) {
                for round in 0..<2 {
                    guard let mount = try await self.mount(of: node, after: UInt64(round)) else { return }
                    let coordinator = try await node.status().coordinator.pid
                    let victims = coordinatorFirst ? [coordinator, mount.pid] : [mount.pid, coordinator]
                    for pid in victims { try SignalWatch.send(SIGKILL, to: pid) }
                    _ = try await self.mount(of: node, after: mount.generation)
                    try await Task.sleep(for: .milliseconds(300))
                }
            }
        }
    }

    @Test func aCallerThatWaitsForTheStoreGetsItsAnswerFromTheSuccessor() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let isSlow = Lock(false)
        let faulty = try FaultyServer(before: server.endpoint) { request in
            if isSlow.withLock({ $0 }), request.method != "PUT" { pause(milliseconds: 1500) }
            return .none
        }
        try await withWritableMount(faulty, of: server) { node, path, bucket in
            let bytes = Self.pattern(3 << 20)
            try await bucket.put("far/away", bytes)
            isSlow.withLock { $0 = true }
            // A lookup waits first, then a read.
            for delay in [300, 1200] {
                let generation = try await node.status().mounts[0].generation
                let reader = try await node.startProgram("sha256sum", ["\(path)/far/away"])
                try await Task.sleep(for: .milliseconds(delay))
                try SignalWatch.send(SIGKILL, to: try await node.status().mounts[0].pid)
                #expect(await reader.wait() == 0, "\(reader.output)")
                _ = try await mount(of: node, after: generation)
            }
            isSlow.withLock { $0 = false }
            #expect(try await onThread { try SampleBytes.whole("\(path)/far/away") } == bytes)
        }
    }

    @Test func aMountWhoseProcessesDieAtOnceIsGivenUpAndNobodyHangs() async throws {
        try await withSteadyMount(.local) { node, path in
            let reader = try await node.startProgram("tail", ["-f", "\(path)/steady.bin", "-c", "1"])
            var generation: UInt64 = 0
            // The kernel answers each process's first request before it dies, or not.
            await becomes("the mount is given up") {
                guard let mount = try? await node.status().mounts.first else { return true }
                if !mount.waiting, mount.generation > generation {
                    generation = mount.generation
                    try? SignalWatch.send(SIGKILL, to: mount.pid)
                }
                return node.logs().contains("is given up")
            }
            let error = try await errorNumber { open("\(path)/steady.bin", O_RDONLY) }
            #expect(error == ENOTCONN || error == ECONNABORTED, "\(error)")
            await reader.stop()
            #expect(node.logs().contains("before it died soon as well"), "\(node.logs())")
            #expect(try await node.larder("umount", "--force", path).code == 0)
        }
    }

    @Test func aMountThatLosesAllItsProcessesGoesOnWhenItIsMountedAgain() async throws {
        try await withSteadyMount(.local) { node, path in
            try await expectSteady(node, path) {
                let lost = try await node.status().mounts[0]
                try await node.killWhole(lost)
                let again = try await node.larder("mount", node.directory.file("source"), path)
                #expect(again.code == 0, "\(again.output)\n\(node.logs())")
                let mount = try await self.mount(of: node, after: 1)
                #expect(mount?.supervisor != lost.supervisor)
            }
        }
    }

    @Test func aMountWithoutAnyProcessAnswersWithAnErrorInTheEnd() async throws {
        try await withSteadyMount(.local) { node, path in
            try await node.killWhole(try await node.status().mounts[0])
            let error = try await errorNumber { open("\(path)/steady.bin", O_RDONLY) }
            #expect(error == ENOTCONN || error == ECONNABORTED, "\(error)")
            #expect(try await node.larder("umount", "--force", path).code == 0)
        }
    }

    // MARK: Forced

    @Test(arguments: ["stopped", "dead", "busy"])
    func aForcedUmountAlwaysUnmounts(state: String) async throws {
        try await withSteadyMount(.local) { node, path in
            let mount = try await node.status().mounts[0]
            let reader = try await node.startProgram("tail", ["-f", "\(path)/steady.bin", "-c", "1"])
            await becomes("the file is open") { try await node.status().mounts[0].openFiles.count == 1 }
            switch state {
            case "stopped": try SignalWatch.send(SIGSTOP, to: mount.pid)
            case "dead": try await node.killWhole(mount)
            default: break
            }
            let caller = try await node.startProgram("stat", ["\(path)/many/f1"])
            let result = try await node.larder("umount", "--force", path)
            #expect(result.code == 0, "\(result.output)")
            #expect(node.mounted().isEmpty)
            for pid in [mount.pid, mount.supervisor].compactMap({ $0 }) { #expect(!ChildProcess.isRunning(pid)) }
            _ = await caller.wait()
            await reader.stop()
        }
    }

    // MARK: Upgrades

    @Test func allMountsAreUpgradedUnderLoadWithoutAnError() async throws {
        try await withSteadyMount(.local) { node, path in
            let second = try await node.mount(node.directory.file("source"))
            let program = node.directory.file("other-larder")
            try FileManager.default.createSymbolicLink(
                atPath: program, withDestinationPath: try LarderNode.binary())
            try await expectSteady(node, path, ["read", "map", "write", "append", "names", "lock"]) {
                for round in 1...2 {
                    let result = try await node.larder("upgrade", "--binary", program, path, second)
                    #expect(result.code == 0, "\(result.output)\n\(node.logs())")
                    await becomes("both mounts are in generation \(round + 1)") {
                        try await node.status().mounts.map(\.generation) == [UInt64(round + 1), UInt64(round + 1)]
                    }
                }
            }
            #expect(try await node.run("cat", "\(second)/many/f1").isEmpty)
        }
    }

    @Test(arguments: ["does not start", "never serves"])
    func anUpgradeToAProgramThatDoesNotServeKeepsTheFormer(fault: String) async throws {
        try await withSteadyMount(.local) { node, path in
            let program = node.directory.file("broken")
            try node.directory.write("broken", fault == "never serves" ? "#!/bin/sh\nexit 3\n" : "no program")
            chmod(program, 0o755)
            try await expectSteady(node, path, ["read", "names"]) {
                let result = try await node.larder("upgrade", "--binary", program, path)
                #expect(result.code != 0 && result.output.contains("was not upgraded"), "\(result.output)")
            }
            let mount = try await self.mount(of: node, after: 1)
            #expect(mount.map { ChildProcess.isRunning($0.pid) } == true)
        }
    }
}
