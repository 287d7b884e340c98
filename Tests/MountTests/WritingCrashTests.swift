import Glibc
import Platform
import TestSupport
import Testing

/// The coordinator dies at a step of its work that the store has just been asked for.
@Suite struct WritingCrashTests {
    /// Kills a process once, when a request comes that it waits for.
    private final class Trap: Sendable {
        private let state = Lock((pid: nil as Int32?, after: 0))
        private let matches: @Sendable (FaultyServer.Request) -> Bool

        init(_ matches: @escaping @Sendable (FaultyServer.Request) -> Bool) { self.matches = matches }

        /// Kills `pid` at the matching request number `after`, 1 being the next.
        func set(_ pid: Int32, after: Int) { state.withLock { $0 = (pid, after) } }
        var hasSprung: Bool { state.withLock { $0.pid == nil } }

        func see(_ request: FaultyServer.Request) {
            guard matches(request) else { return }
            let victim = state.withLock { state -> Int32? in
                state.after -= 1
                guard state.after == 0, let pid = state.pid else { return nil }
                state.pid = nil
                return pid
            }
            if let victim { try? SignalWatch.send(SIGKILL, to: victim) }
        }
    }

    private static let files = 40

    /// Not what Larder asks to find out what the store can do.
    private static func isStepOfARename(_ request: FaultyServer.Request) -> Bool {
        if request.method == "PUT" {
            return request.headers["x-amz-copy-source"] != nil && request.target.contains("/new/d")
                && !request.target.contains(".larder-probe-")
        }
        return request.method == "POST" && request.target.hasSuffix("?delete=")
            || request.method == "POST" && request.target.hasSuffix("?delete")
    }

    /// At the first copy, amid the copies, at the last, and when the sources are removed.
    @Test(arguments: [1, 17, 40, 41])
    func aDirectoryRenameThatIsKilledIsCompletedByTheSuccessor(step: Int) async throws {
        let server = try await MotoServer.shared.get()
        let trap = Trap(Self.isStepOfARename)
        let faulty = try FaultyServer(before: server.endpoint) { request in
            trap.see(request)
            return .none
        }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            for index in 0..<Self.files { try await bucket.put(ByteString("old/d\(index % 4)/\(index)"), "\(index)") }
            let before = try await WrittenTree.read("\(mount)/old")
            #expect(before.files.count == Self.files)
            trap.set(try await node.status().coordinator.pid, after: step)
            let error = try await errorNumber { rename("\(mount)/old", "\(mount)/new") }
            #expect(trap.hasSprung, "the rename asked the store for less than \(step) changes")
            #expect(error == 0, "the call waits for the successor and is done once")
            let keys = Set(try await bucket.keys().filter { !$0.hasSuffix("/") })
            #expect(keys == Set((0..<Self.files).map { "new/d\($0 % 4)/\($0)" }))
            #expect(try await WrittenTree.read("\(mount)/new") == before)
            #expect(try await errorNumber { access("\(mount)/old", F_OK) } == ENOENT)
            try await expectPlainLayout(bucket, of: mount)
        }
    }

    /// With nobody left who asks for it: the mount dies with the coordinator.
    @Test(arguments: [1, 17, 41])
    func aDirectoryRenameThatNobodyWaitsForIsCompletedAtTheNextMount(step: Int) async throws {
        let server = try await MotoServer.shared.get()
        let trap = Trap(Self.isStepOfARename)
        let faulty = try FaultyServer(before: server.endpoint) { request in
            trap.see(request)
            return .none
        }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            for index in 0..<Self.files { try await bucket.put(ByteString("old/d\(index % 4)/\(index)"), "\(index)") }
            let status = try await node.status()
            // The mount is stopped first, so that it cannot ask the successor.
            trap.set(status.coordinator.pid, after: step)
            let renaming = try await node.startProgram(
                "python", ["-c", "import os, sys; os.rename(*sys.argv[1:])", "\(mount)/old", "\(mount)/new"])
            await becomes("the coordinator is killed") { trap.hasSprung }
            try await node.killWhole(status.mounts[0])
            _ = await renaming.wait()
            let behind = S3Admin(endpoint: faulty.endpoint, bucket: bucket.bucket, credentials: bucket.credentials)
            try await node.remount(behind, at: mount, options: [])
            let shown = try await WrittenTree.read(mount)
            let names = Set(shown.files.keys)
            let all = { (name: String) in Set((0..<Self.files).map { "\(name)/d\($0 % 4)/\($0)" }) }
            #expect(names == all("new") || names == all("old"), "\(names.sorted())")
            try await expectPlainLayout(bucket, of: mount)
        }
    }

    @Test(arguments: [1, 2, 4])
    func anUploadInPartsThatIsKilledIsDoneByTheSuccessor(part: Int) async throws {
        let server = try await JuiceFSGateway.shared.get()
        let trap = Trap { $0.method == "PUT" && $0.target.contains("partNumber=") }
        let faulty = try FaultyServer(before: server.endpoint) { request in
            trap.see(request)
            return .none
        }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            let bytes = SampleBytes.make(50 << 20, seed: 21)
            trap.set(try await node.status().coordinator.pid, after: part)
            let file = try await node.hold("\(mount)/large", O_WRONLY | O_CREAT)
            #expect(try await file.write(bytes) == 0)
            #expect(try await file.close() == 0)
            #expect(trap.hasSprung, "the file was uploaded in less than \(part) parts")
            #expect(try await bucket.get("large") == bytes)
            await becomes("parts of the dead are taken away") { try await bucket.unfinishedUploads() == 0 }
        }
    }

    @Test(arguments: ["cacheThrough", "asyncThrough"])
    func aFileThatIsOpenWhenTheCoordinatorDiesIsWrittenOn(writeType: String) async throws {
        let server = try await MotoServer.shared.get()
        try await withWritableMount(server, ["--write-type", writeType]) { node, mount, bucket in
            let bytes = SampleBytes.make(900_000, seed: 22)
            let file = try await node.hold("\(mount)/file", O_RDWR | O_CREAT)
            for part in 0..<3 {
                let range = part * 300_000..<(part + 1) * 300_000
                #expect(try await file.write(Array(bytes[range]), at: range.lowerBound) == 0)
                let pid = try await node.status().coordinator.pid
                try SignalWatch.send(SIGKILL, to: pid)
                await becomes("the coordinator is gone") { !ChildProcess.isRunning(pid) }
            }
            #expect(try await file.synchronize() == 0)
            #expect(try await file.close() == 0)
            #expect(try await node.larder("flush", mount).code == 0)
            #expect(try await bucket.get("file") == bytes)
            #expect(try await bucket.keys() == ["file"])
        }
    }

    @Test func whatWaitsForItsUploadAtAForcedUmountFollowsAtTheNextMountAndAnotherUmountWaitsForIt() async throws {
        let server = try await MotoServer.shared.get()
        let isAway = Lock(false)
        let faulty = try FaultyServer(before: server.endpoint) { request in
            isAway.withLock { $0 } && request.method == "PUT" ? .busy() : .none
        }
        try await withWritableMount(faulty, of: server, ["--write-type", "asyncThrough"]) { node, mount, bucket in
            #expect(try await errorNumber { mkdir("\(mount)/d", 0o755) } == 0)
            isAway.withLock { $0 = true }
            try await node.shell(#"cd "$1"; for i in 1 2 3; do echo $i > d/$i; done"#, mount)
            #expect(try await bucket.keys().filter { !$0.hasSuffix("/") }.isEmpty)
            let pending = try await node.status().pending
            #expect(Set(pending.map(\.path)) == ["d/1", "d/2", "d/3"], "\(pending)")
            let unmounted = try await node.larder("umount", "--force", mount)
            #expect(unmounted.code == 0, "\(unmounted.output)")
            await becomes("the coordinator leaves") { node.processes().isEmpty }
            isAway.withLock { $0 = false }
            let behind = S3Admin(endpoint: faulty.endpoint, bucket: bucket.bucket, credentials: bucket.credentials)
            let again = try await node.mount(behind, options: [])
            try await node.shell(#"echo 4 > "$1"/d/4"#, again)
            let waited = try await node.larder("umount", again)
            #expect(waited.code == 0, "\(waited.output)")
            #expect(
                try await bucket.contents().filter { !$0.key.hasSuffix("/") } == [
                    "d/1": [49, 10], "d/2": [50, 10], "d/3": [51, 10], "d/4": [52, 10],
                ])
        }
    }
}

/// The cache disk is smaller than what is written.
@Suite struct WritingSpaceTests {
    @Test(arguments: ["cacheThrough", "asyncThrough"])
    func threeTimesTheCacheCanBeWritten(writeType: String) async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try node.directory.makeDirectory("disk")
            let disk = node.directory.file("disk")
            try await node.run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk)
            let mount = try await node.mount(
                bucket, "--cache-dir", disk, "--cache-size", "40MiB", "--write-type", writeType)
            let written = try await node.shellOutcome(
                """
                cd "$1"; head -c 8000000 /dev/urandom > "$2/piece"
                for i in $(seq 24); do cp "$2/piece" many-$i; done
                """, [mount, node.directory.path])
            #expect(written.code == 0, "24 files of 8 MB: \(written.output)")
            let flushed = try await node.larder("flush", mount)
            #expect(flushed.code == 0, "\(flushed.output)")
            #expect(try await bucket.keys().count == 24)
            #expect(try await node.status().pending.isEmpty)
            let same = try await node.shellOutcome(
                #"cd "$1"; for i in 1 12 24; do cmp "$2/piece" many-$i; done"#, [mount, node.directory.path])
            #expect(same.code == 0, "\(same.output)")
            try await node.umount(mount)
            await becomes("the coordinator leaves") { node.processes().isEmpty }
            try await node.run("umount", disk)
        }
    }

    /// A file has to be whole on the node until it is closed: one that is longer than the cache is told so, and harms nothing.
    @Test func aFileThatIsLongerThanTheCacheIsRefusedAndLeavesNothing() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try node.directory.makeDirectory("disk")
            let disk = node.directory.file("disk")
            try await node.run("mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", disk)
            let mount = try await node.mount(bucket, "--cache-dir", disk, "--cache-size", "64MiB")
            let written = try await node.shellOutcome(#"head -c 200000000 /dev/zero > "$1/long""#, [mount])
            #expect(written.code != 0 && written.output.contains("No space left on device"), "\(written)")
            try await node.shell(
                #"rm "$1/long"; head -c 20000000 /dev/urandom > "$2/piece"; cp "$2/piece" "$1/piece"; cmp "$2/piece" "$1/piece""#,
                mount, node.directory.path)
            #expect(try await bucket.keys() == ["piece"])
            await becomes("no upload is left") { try await bucket.unfinishedUploads() == 0 }
            try await node.umount(mount)
            await becomes("the coordinator leaves") { node.processes().isEmpty }
            try await node.run("umount", disk)
        }
    }
}
