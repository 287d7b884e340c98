import Foundation
import Glibc
import Platform
import TestSupport
import Testing

@Suite struct WritingFaultTests {
    @Test func aStoreThatDiesBeforeTheCloseIsAnErrorAndTheDataFollowsLater() async throws {
        let server = try await JuiceFSGateway.start()
        try await withWritableMount(server) { node, mount, bucket in
            let bytes = SampleBytes.make(300_000, seed: 11)
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_CREAT)
            let other = try await node.hold("\(mount)/other", O_WRONLY | O_CREAT)
            #expect(try await file.write(bytes) == 0)
            #expect(try await other.write(bytes) == 0)
            await server.stop()
            #expect(try await file.synchronize() == EIO, "fsync must not acknowledge what no store has")
            #expect(try await file.close() == EIO)
            #expect(try await other.close() == EIO)
            let failed = try await node.status().pending
            #expect(Set(failed.map(\.path)) == ["file", "other"], "\(failed)")
            #expect(failed.allSatisfy { $0.lastError != nil && $0.bytes == 300_000 }, "\(failed)")
            #expect(try await node.larder("flush", mount).code == 74, "EX_IOERR: the store is still away")
            // What is kept can still be read.
            #expect(try await onThread { try SampleBytes.whole("\(mount)/file") } == bytes)
            let again = try await server.restarted()
            let flushed = try await node.larder("flush", mount)
            #expect(flushed.code == 0, "\(flushed.output)")
            #expect(try await bucket.contents() == ["file": bytes, "other": bytes])
            #expect(try await node.status().pending.isEmpty)
            withExtendedLifetime(again) {}
        }
    }

    @Test func whatFailedToCloseIsUploadedByItselfWhenTheStoreIsBack() async throws {
        let server = try await MotoServer.shared.get()
        let isAway = Lock(false)
        let faulty = try FaultyServer(before: server.endpoint) { _ in isAway.withLock { $0 } ? .refuse : .none }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_CREAT)
            #expect(try await file.write(Array("kept".utf8)) == 0)
            isAway.withLock { $0 = true }
            #expect(try await file.close() == EIO)
            isAway.withLock { $0 = false }
            await becomes("the file is uploaded") { try await node.status().pending.isEmpty }
            #expect(try await bucket.contents() == ["file": Array("kept".utf8)])
        }
    }

    @Test(arguments: TestedServer.allCases)
    func anObjectReplacedBehindIsStaleAtCloseAndTheDataAConflict(server: TestedServer) async throws {
        try await withWritableMount(try await server.get()) { node, mount, bucket in
            try await bucket.put("dir/file", "the first version")
            let file = try await node.hold("\(mount)/dir/file", O_RDWR)
            #expect(try await file.write(Array("MINE".utf8), at: 4) == 0)
            try await bucket.put("dir/file", "somebody else's")
            let closed = try await file.close()
            let pending = try await node.status().pending
            #expect(closed == ESTALE, "\(pending)")
            #expect(try await bucket.contents() == ["dir/file": Array("somebody else's".utf8)])
            #expect(try await node.status().conflicts == 1)
            struct Conflict: Decodable { let number, bytes: UInt64; let url, reason: String }
            let listed = try await node.larder("conflicts", "--json")
            let conflicts = try JSONDecoder().decode([Conflict].self, from: Data(listed.output.utf8))
            #expect(
                conflicts.map(\.bytes) == [17] && conflicts.first?.url.hasSuffix("/dir/file") == true,
                "\(listed.output)")
            let number = conflicts.first?.number ?? 0
            let restored = try await node.larder("conflicts", "--restore", "\(number)")
            #expect(restored.code == 0, "\(restored.output)")
            let expected = Array("the MINEt version".utf8)
            #expect(try await bucket.contents()["dir/file.larder-conflict-\(number)"] == expected)
            #expect(try await bucket.contents()["dir/file"] == Array("somebody else's".utf8))
            #expect(try await node.status().conflicts == 0)
            #expect(
                try await onThread { try SampleBytes.whole("\(mount)/dir/file.larder-conflict-\(number)") } == expected)
            #expect(try await onThread { try SampleBytes.whole("\(mount)/dir/file") } == Array("somebody else's".utf8))
        }
    }

    @Test func aConflictOutlivesTheCoordinator() async throws {
        try await withWritableMount(try await MotoServer.shared.get()) { node, mount, bucket in
            try await bucket.put("file", "first")
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_TRUNC)
            #expect(try await file.write(Array("mine".utf8)) == 0)
            try await bucket.put("file", "theirs")
            #expect(try await file.close() == ESTALE)
            try SignalWatch.send(SIGKILL, to: try await node.status().coordinator.pid)
            await becomes("the successor knows the conflict") { try await node.status().conflicts == 1 }
            let listed = try await node.larder("conflicts")
            #expect(listed.output.contains("file"), "\(listed.output)")
            let number = listed.output.split(separator: "\n").last?.split(separator: " ").first.map(String.init) ?? ""
            let restored = try await node.larder("conflicts", "--restore", number, "--to", "elsewhere")
            #expect(restored.code == 0, "\(restored.output)")
            #expect(try await bucket.contents() == ["file": Array("theirs".utf8), "elsewhere": Array("mine".utf8)])
        }
    }

    @Test func aPolicyThatRefusesWritesIsPermissionDenied() async throws {
        let server = try await MotoServer.shared.get()
        let refuses = Lock(true)
        let faulty = try FaultyServer(before: server.endpoint) { request in
            let writes = request.method != "GET" && request.method != "HEAD"
            return refuses.withLock { $0 } && writes ? .error(403, "AccessDenied") : .none
        }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            let file = try await node.hold("\(mount)/file", O_WRONLY | O_CREAT)
            #expect(try await file.write(Array("kept".utf8)) == 0)
            #expect(try await file.close() == EACCES)
            #expect(try await errorNumber { mkdir("\(mount)/directory", 0o755) } == EACCES)
            let pending = try await node.status().pending
            #expect(pending.map(\.path) == ["file"] && pending.first?.lastError != nil, "\(pending)")
            #expect(try await bucket.contents().isEmpty)
            refuses.withLock { $0 = false }
            #expect(try await node.larder("flush", mount).code == 0)
            #expect(try await bucket.contents() == ["file": Array("kept".utf8)])
        }
    }

    @Test func aStormOfBusyAnswersFailsNoWrite() async throws {
        let server = try await MotoServer.shared.get()
        // Every third request; what is asked again comes at another number.
        let faulty = try FaultyServer(before: server.endpoint) { $0.index % 3 == 2 ? .busy() : .none }
        try await withWritableMount(faulty, of: server) { node, mount, bucket in
            try await node.shell(
                """
                cd "$1"; mkdir -p a/b; for i in 1 2 3 4 5 6; do seq $((i * 1000)) > a/b/$i; done
                mv a c; rm c/b/1; mv c/b/2 c/b/3; ln -s c/b/4 link
                """, mount)
            try await expectPlainLayout(bucket, of: mount)
            #expect(try await bucket.keys().contains("c/b/6"))
        }
    }

    @Test func aReadOnlyMountRefusesEveryChange() async throws {
        try await withNode(LarderNode.credentials(of: try await MotoServer.shared.get())) { node in
            let bucket = try await MotoServer.shared.get().makeBucket()
            try await bucket.put("dir/file", "x")
            let mount = try await node.mount(bucket, "--read-only")
            let file = "\(mount)/dir/file"
            let calls: [(String, @Sendable () -> CInt)] = [
                ("open for writing", { openError(file, O_WRONLY) }),
                ("create", { openError("\(mount)/new", O_CREAT | O_RDWR) }),
                ("mkdir", { mkdir("\(mount)/new", 0o755) }), ("unlink", { unlink(file) }),
                ("rename", { rename(file, "\(mount)/new") }),
                ("rename a directory", { rename("\(mount)/dir", "\(mount)/new") }),
                ("symlink", { symlink("a", "\(mount)/new") }), ("link", { link(file, "\(mount)/new") }),
                ("truncate", { truncate(file, 0) }), ("chmod", { chmod(file, 0o600) }),
                ("utimes", { utimes(file, nil) }),
            ]
            for (name, call) in calls { #expect(try await errorNumber(call) == EROFS, "\(name)") }
            #expect(try await bucket.contents() == ["dir/file": [120]])
        }
    }

    @Test(arguments: TestedServer.allCases)
    func namesAndKeysThatAreTooLongAreRefusedAtOnce(server: TestedServer) async throws {
        try await withWritableMount(try await server.get()) { _, mount, bucket in
            let longest = String(repeating: "n", count: 255)
            #expect(try await errorNumber { openError("\(mount)/\(longest)n", O_CREAT | O_WRONLY) } == ENAMETOOLONG)
            #expect(try await errorNumber { mkdir("\(mount)/\(longest)n", 0o755) } == ENAMETOOLONG)
            #expect(try await errorNumber { symlink("target", "\(mount)/\(longest)n") } == ENAMETOOLONG)
            var directory = mount
            for _ in 0..<3 {
                directory += "/\(longest)"
                let path = directory
                #expect(try await errorNumber { mkdir(path, 0o755) } == 0)
            }
            // Three names and three slashes: 256 bytes are left of S3's 1024, so 255 for a name with nothing behind it.
            let (path, rest) = (directory, String(repeating: "m", count: 255))
            let moved = "\(mount)/directory"
            #expect(try await errorNumber { mkdir(moved, 0o755) } == 0)
            #expect(try await errorNumber { mkdir("\(moved)/\(rest)", 0o755) } == 0)
            #expect(
                try await errorNumber { rename(moved, "\(path)/\(rest)") } == ENAMETOOLONG,
                "its entries would be too long")
            #expect(try await errorNumber { rmdir("\(moved)/\(rest)") } == 0)
            #expect(try await errorNumber { mkdir("\(path)/\(rest)", 0o755) } == 0)
            #expect(try await errorNumber { mkdir("\(path)/\(rest)/x", 0o755) } == ENAMETOOLONG)
            #expect(try await errorNumber { openError("\(path)/\(rest)/x", O_CREAT | O_WRONLY) } == ENAMETOOLONG)
            try await expectPlainLayout(bucket, of: mount)
        }
    }

    @Test func aMoveToAnotherStoreCopies() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let (first, second) = (try await server.makeBucket(), try await server.makeBucket())
            try node.directory.makeDirectory("store")
            try node.directory.write(
                "namespace.yaml",
                """
                mounts:
                  - {path: /one, source: "s3://\(first.bucket)", endpoint: "\(first.endpoint)"}
                  - {path: /two, source: "s3://\(second.bucket)", endpoint: "\(second.endpoint)"}
                  - {path: /local, source: "file://\(node.directory.file("store"))"}
                """)
            let mount = try await node.mount(node.directory.file("namespace.yaml"))
            try await node.shell(
                """
                cd "$1"; mkdir -p one/tree/sub; seq 20000 > one/tree/sub/numbers; ln -s sub/numbers one/tree/link; cp -r one/tree "$2"
                """, mount, node.directory.file("reference"))
            for (from, to) in [("one", "two"), ("two", "local"), ("local", "one")] {
                let paths = ("\(mount)/\(from)/tree", "\(mount)/\(to)/tree")
                #expect(try await errorNumber { rename(paths.0, paths.1) } == EXDEV, "\(from) to \(to)")
                try await node.shell(
                    """
                    mv "$1" "$2"; test ! -e "$1"; diff -r --no-dereference "$2" "$3"
                    """, paths.0, paths.1, node.directory.file("reference"))
            }
        }
    }
}

/// A node whose store is a bucket of `server` behind `faulty`.
func withWritableMount(
    _ faulty: FaultyServer, of server: any S3TestServer, _ options: [String] = [],
    sourceLocation: SourceLocation = #_sourceLocation,
    _ body: (_ node: LarderNode, _ mount: String, _ bucket: S3Admin) async throws -> Void
) async throws {
    try await withNode(LarderNode.credentials(of: server), sourceLocation: sourceLocation) { node in
        let bucket = try await server.makeBucket()
        let behind = S3Admin(endpoint: faulty.endpoint, bucket: bucket.bucket, credentials: bucket.credentials)
        let mount = try await node.mount(behind, options: options)
        try await body(node, mount, bucket)
    }
}
