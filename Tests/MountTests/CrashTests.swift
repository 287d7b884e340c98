import Foundation
import Glibc
import Platform
import TestSupport
import Testing

/// What was acknowledged to a writer is in the store in the end, whatever was killed meanwhile.
///
/// `$LARDER_CRASH_SECONDS` lets each case go on for so long instead of a few kills; `$LARDER_CRASH_SEED` repeats one.
@Suite(.serialized) struct CrashTests {
    /// A mount that is killed goes on by itself; after `everything`, which takes its supervisor as well, it is mounted anew.
    enum Victim: CaseIterable { case coordinator, mount, both, everything }

    private static let seconds = getenv("LARDER_CRASH_SECONDS").flatMap { Int(String(cString: $0)) }
    private static let kills = 8
    private static let writers = 2

    @Test(arguments: TestedServer.allCases, ["cacheThrough", "asyncThrough"])
    func everyAcknowledgedByteIsInTheStoreAfterKills(on kind: TestedServer, writeType: String) async throws {
        let seed = getenv("LARDER_CRASH_SEED").flatMap { UInt64(String(cString: $0)) } ?? .random(in: 0..<1 << 32)
        print("LARDER_CRASH_SEED=\(seed) for \(writeType) on \(kind)")
        let server = try await kind.get()
        try await withWritableMount(server, ["--write-type", writeType]) { node, mount, bucket in
            try node.directory.write("crash.py", CrashWriter.program)
            var random = SeededGenerator(seed: seed)
            let processes = try await start(node, mount, seed: seed)
            try await killAgainAndAgain(node, mount, bucket, ["--write-type", writeType], &random)
            try node.directory.write("stop", "")
            for process in processes {
                #expect(await process.wait() == 0, "seed \(seed): a writer: \(process.output)")
            }
            let flushed = try await node.larder("flush", mount)
            #expect(flushed.code == 0, "seed \(seed): \(flushed.output)")
            let status = try await node.status()
            #expect(
                status.pending.isEmpty && status.conflicts == 0,
                "seed \(seed): \(status.pending) \(status.conflicts)\n\(node.logs())")
            try await expectAllAcknowledged(node, bucket, server, seed: seed)
        }
    }

    private func log(_ node: LarderNode, _ writer: Int) -> String { node.directory.file("log-\(writer)") }

    private func start(_ node: LarderNode, _ mount: String, seed: UInt64) async throws -> [TestProcess] {
        var processes: [TestProcess] = []
        for writer in 0..<Self.writers {
            try node.directory.write("log-\(writer)", "")
            // Here and not by the writer, which would make it below the mount point while nothing is mounted there.
            let error = try await errorNumber { mkdir("\(mount)/w\(writer)", 0o755) }
            #expect(error == 0)
            processes.append(
                try await node.startProgram(
                    "python",
                    [
                        node.directory.file("crash.py"), "write", mount, log(node, writer), "\(seed)", "w\(writer)",
                        node.directory.file("stop"),
                    ]))
        }
        return processes
    }

    private func killAgainAndAgain(
        _ node: LarderNode, _ mount: String, _ bucket: S3Admin, _ options: [String], _ random: inout SeededGenerator
    ) async throws {
        let end = Self.seconds.map { ContinuousClock.now + .seconds($0) }
        var count = 0
        while end.map({ .now < $0 }) ?? (count < Self.kills) {
            // Each victim at least twice, else at random.
            let victims = count < 8 ? Victim.allCases[count % 4] : Victim.allCases.randomElement(using: &random)
            count += 1
            let goal = acknowledged(node) + Int.random(in: 1...40, using: &random)
            await becomes("the writers go on after kill \(count - 1)") { self.acknowledged(node) >= goal }
            var pids: (coordinator: Int32, mount: NodeStatus.Mount)?
            await becomes("the coordinator knows its mount after kill \(count - 1)") {
                let status = try await node.status()
                pids = status.mounts.first { !$0.waiting }.map { (status.coordinator.pid, $0) }
                return pids != nil
            }
            guard let pids, let victims else { return }
            if victims != .mount { try? SignalWatch.send(SIGKILL, to: pids.coordinator) }
            switch victims {
            case .coordinator: break
            case .mount, .both: try? SignalWatch.send(SIGKILL, to: pids.mount.pid)
            case .everything:
                try await node.killWhole(pids.mount)
                try await node.remount(bucket, at: mount, options: options)
            }
        }
    }

    /// How many things the writers had acknowledged.
    private func acknowledged(_ node: LarderNode) -> Int {
        (0..<Self.writers).reduce(0) { sum, writer in
            let text = (try? String(contentsOfFile: log(node, writer), encoding: .utf8)) ?? ""
            return sum + text.split(separator: "\n").count { !$0.hasPrefix("error") }
        }
    }

    /// Read with an empty cache, by a node that has none of the journal.
    private func expectAllAcknowledged(
        _ node: LarderNode, _ bucket: S3Admin, _ server: any S3TestServer, seed: UInt64
    ) async throws {
        try await withNode(LarderNode.credentials(of: server)) { fresh in
            let copy = try await fresh.mount(bucket, "--read-only")
            for writer in 0..<Self.writers {
                let judged = try await fresh.outcome(
                    "python",
                    [
                        node.directory.file("crash.py"), "check", copy, log(node, writer), "\(seed)", "w\(writer)",
                    ])
                let text = (try? String(contentsOfFile: log(node, writer), encoding: .utf8)) ?? ""
                // Their kinds, without the names of files.
                let errors = text.split(separator: "\n").filter { $0.hasPrefix("error") }
                let kinds = Set(errors.map { $0.prefix { $0 != ":" } })
                #expect(
                    judged.code == 0, "seed \(seed): \(judged.output)\nthe writer's errors: \(kinds)\n\(node.logs())")
                print("w\(writer): \(judged.output.prefix(200)); \(errors.count) errors \(kinds)")
            }
        }
        #expect(try await bucket.unfinishedUploads() == 0, "seed \(seed)")
    }
}
