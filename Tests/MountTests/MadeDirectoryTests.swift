import Foundation
import Glibc
import Platform
import SystemPackage
import TestSupport
import Testing

/// A mount answers for the directories that it has made: what others do in them is seen at once all the same.
@Suite struct MadeDirectoryTests {
    private func exists(_ path: String) async throws -> Bool {
        try await onThread { (try? FileStatus(of: path)) != nil }
    }

    @Test(arguments: TestedServer.allCases)
    func whatAnotherMountChangesThereIsSeenAtOnce(server: TestedServer) async throws {
        let server = try await server.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            // Longer than the test, whatever else the machine does.
            let ttl = ["--metadata-ttl", "1h"]
            let (a, b) = (try await node.mount(bucket, options: ttl), try await node.mount(bucket, options: ttl))
            try await node.run("mkdir", "\(a)/d")
            for round in 0..<10 {
                #expect(try await !exists("\(a)/d/own-\(round)"))
                try await node.run("touch", "\(a)/d/own-\(round)")
                #expect(try await !exists("\(a)/d/other-\(round)"))
                try await node.run("touch", "\(b)/d/other-\(round)")
                #expect(try await exists("\(a)/d/other-\(round)"))
                let (mine, theirs) = (try await times("\(a)/d"), try await times("\(b)/d"))
                #expect(mine == theirs)
                let listed = try await node.run("ls", "\(a)/d")
                #expect(try await node.run("ls", "\(b)/d") == listed)
            }
            try await node.run("mv", "\(b)/d/own-0", "\(b)/d/moved")
            #expect(try await exists("\(a)/d/moved"))
            #expect(try await !exists("\(a)/d/own-0"))
            try await node.run("mkdir", "\(a)/d/sub")
            try await node.run("touch", "\(b)/d/sub/other")
            #expect(try await exists("\(a)/d/sub/other"))
        }
    }

    private func times(_ path: String) async throws -> FileTime {
        try await onThread { try FileStatus(of: path).modified }
    }

    @Test func whatTheStoreHasGotBehindItsBackIsSeenAfterASync() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let mount = try await node.mount(bucket)
            try await node.run("mkdir", "\(mount)/d")
            #expect(try await !exists("\(mount)/d/foreign"))
            try await bucket.put("d/foreign", "foreign")
            #expect(try await node.larder("sync", "\(mount)/d").code == 0)
            #expect(try await node.run("cat", "\(mount)/d/foreign") == "foreign")
        }
    }

    @Test func anotherCoordinatorKnowsOfMoreThanTheFirst() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let (a, b) = (try await node.mount(bucket), try await node.mount(bucket))
            try await node.run("mkdir", "\(a)/d")
            try await node.run("touch", "\(a)/d/first")
            let killed = try await node.status().coordinator.pid
            try SignalWatch.send(SIGKILL, to: killed)
            await becomes("the coordinator is gone") { !ChildProcess.isRunning(killed) }
            try await node.run("touch", "\(b)/d/second")
            #expect(try await exists("\(a)/d/first"))
            await becomes("the first mount sees what the second has made") { try await exists("\(a)/d/second") }
            try await node.run("touch", "\(a)/d/third")
            #expect(try await node.run("ls", "\(b)/d") == "first\nsecond\nthird\n")
        }
    }

    @Test func theTimesOfADirectoryChangeWithItsEntriesAndNotBetween() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let mount = try await node.mount(bucket, options: ["--metadata-ttl", "1h"])
            try await node.run("mkdir", "\(mount)/d")
            let long = try await node.outcome("stat", ["\(mount)/d/" + String(repeating: "x", count: 256)])
            #expect(long.output.contains("File name too long"))
            var last = try await times("\(mount)/d")
            for change in ["touch f", "mkdir sub", "ln -s f link", "mv f g", "rm g", "rmdir sub", "touch h"] {
                try await node.run("bash", "-c", "cd \(mount)/d && \(change)")
                let now = try await times("\(mount)/d")
                #expect(now > last, "\(change)")
                #expect(try await times("\(mount)/d") == now)
                last = now
            }
            try await node.run("chmod", "700", "\(mount)/d")
            #expect(try await node.run("stat", "-c", "%a", "\(mount)/d") == "700\n")
        }
    }
}
