import Glibc
import Platform
import TestSupport
import Testing

@Suite struct DiskFailureTests {
    @Test func aCacheDiskThatFailsIsNotTheReadersErrorAndIsNamedByStatus() async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let bytes = SampleBytes.make(24 << 20, seed: 7)
            try await bucket.put("object", bytes)
            try await bucket.put("later", bytes.reversed())
            let disk = try await LoopDisk(node, bytes: 128 << 20)
            let mount = try await node.mount(bucket, "--cache-dir", "\(disk.path)/cache", "--metadata-ttl", "1h")
            let handle = try await onThread { try Descriptor.open("\(mount)/object", O_RDONLY) }
            // Not all, so that the file stays one that Larder reads, not the kernel.
            try await expect(handle, 0..<20 << 20, of: bytes, "before")
            #expect(try await node.status().cache.tiers.allSatisfy { $0.state == "ok" })
            // Not from the pages that the kernel keeps for the mount either.
            try await LoopDisk.forgetPages(below: "\(mount)/object", node)
            try await disk.fail(node)
            try await expect(handle, 0..<24 << 20, of: bytes, "after")
            let later = try await onThread { try SampleBytes.whole("\(mount)/later") }
            let isRight = later.elementsEqual(bytes.reversed())
            #expect(isRight)
            let tier = try #require(try await node.status().cache.tiers.first { $0.path.hasPrefix(disk.path) })
            #expect(tier.state.hasPrefix("failed"), "\(tier.state)")
            withExtendedLifetime((handle, disk)) {}
        }
    }

    private func expect(
        _ handle: Descriptor, _ range: Range<Int>, of bytes: [UInt8], _ when: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        for offset in stride(from: range.lowerBound, to: range.upperBound, by: 1 << 20) {
            let read = try await onThread { try SampleBytes.read(handle, UInt64(offset), 1 << 20) }
            // A comparison of its own: the difference of two such arrays would take hours to print.
            let isRight = read.elementsEqual(bytes[offset..<offset + 1 << 20])
            #expect(isRight, "\(when), at \(offset)", sourceLocation: sourceLocation)
        }
    }

    /// What is written lies on the cache's disk until the store has it.
    @Test(arguments: ["cacheThrough", "asyncThrough"])
    func whatIsAcknowledgedAlthoughTheStagingDiskFailsIsInTheStore(writeType: String) async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try await bucket.put("before", "there")
            let disk = try await LoopDisk(node, bytes: 128 << 20)
            let mount = try await node.mount(
                bucket, "--cache-dir", "\(disk.path)/cache", "--write-type", writeType)
            let open = try await node.hold("\(mount)/open", O_WRONLY | O_CREAT)
            let early = SampleBytes.make(3 << 20, seed: 1)
            #expect(try await open.write(early, at: 0) == 0)
            try await disk.fail(node)
            var acknowledged: [String: [UInt8]] = [:]
            let more = SampleBytes.make(3 << 20, seed: 2)
            let written = try await open.write(more, at: early.count)
            let closed = try await open.close()
            #expect([0, EIO].contains(written) && [0, EIO].contains(closed), "\(written), \(closed)")
            if written == 0, closed == 0 { acknowledged["open"] = early + more }
            for index in 0..<6 {
                let bytes = SampleBytes.make(400_000, seed: UInt64(index + 10))
                let result = try await node.writing("\(mount)/late-\(index)", bytes)
                #expect([0, EIO, ENOSPC].contains(result), "late-\(index): \(result)")
                if result == 0 { acknowledged["late-\(index)"] = bytes }
            }
            #expect(try await onThread { try SampleBytes.whole("\(mount)/before") } == Array("there".utf8))
            // Uploads of what can be read go on; what cannot is named.
            let flushed = try await node.larder("flush", mount)
            let pending = try await node.status().pending
            #expect((flushed.code == 0) == pending.isEmpty, "\(flushed.output) \(pending)")
            let contents = try await bucket.contents()
            for (name, bytes) in acknowledged {
                let isThere = contents[name] == bytes
                let isNamed = pending.contains { $0.path == name && $0.lastError != nil }
                let there = contents[name].map { "\($0.count) bytes" } ?? "absent"
                #expect(
                    isThere || isNamed,
                    "\(name) was acknowledged and is \(there); \(pending) \(flushed)\n\(node.logs())")
                if writeType == "cacheThrough" { #expect(isThere, "\(name) was acknowledged") }
            }
            #expect(contents["before"] == Array("there".utf8))
            _ = try await node.larder("umount", "--force", mount)
            withExtendedLifetime(disk) {}
        }
    }

    /// Where journal and indexes are there is no more room.
    @Test func aFullStateDirectoryFailsNoReadAndNoAcknowledgedWrite() async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let names = (0..<300).map { "d/\($0)-" + String(repeating: "n", count: 200) }
            for name in names { try await bucket.put(ByteString(name), name) }
            try await node.run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", node.directory.file("state"))
            let mount = try await node.mount(bucket)
            try await node.shell(#"! cat /dev/zero > "$1/fill" 2> /dev/null"#, node.directory.file("state"))
            let shown = try await WrittenTree.read("\(mount)/d")
            #expect(shown.files.count == names.count)
            for (name, bytes) in shown.files { #expect(bytes == Array("d/\(name)".utf8)) }
            var acknowledged: [String] = []
            var refused = 0
            for index in 0..<60 {
                let result = try await node.writing("\(mount)/new-\(index)", Array("\(index)".utf8))
                #expect([0, ENOSPC, EIO].contains(result), "new-\(index): \(result)")
                if result == 0 { acknowledged.append("new-\(index)") } else { refused += 1 }
            }
            #expect(refused > 0, "a journal that cannot be written acknowledges nothing for ever")
            let contents = try await bucket.contents()
            for name in acknowledged { #expect(contents[name] == Array(name.dropFirst(4).utf8), "\(name)") }
            try await node.run("rm", "\(node.directory.file("state"))/fill")
            #expect(try await node.writing("\(mount)/again", Array("again".utf8)) == 0)
            #expect(try await bucket.contents()["again"] == Array("again".utf8))
            #expect(try await WrittenTree.read("\(mount)/d") == shown)
            try await node.umount(mount)
            await becomes("the coordinator leaves") { node.processes().isEmpty }
            // The kernel closes the files of a process after it has taken it from the lists.
            await becomes("nobody has the state directory open") {
                try await node.outcome("umount", [node.directory.file("state")]).code == 0
            }
        }
    }
}

extension LarderNode {
    /// Creates a file with these bytes: the error number of open, write or close; 0 when all is acknowledged.
    func writing(_ path: String, _ bytes: [UInt8]) async throws -> CInt {
        try await onThread {
            let file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0o644)
            guard file >= 0 else { return errno }
            let count = bytes.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
            let error = count == bytes.count ? 0 : count < 0 ? errno : ENOSPC
            return close(file) == 0 ? error : error == 0 ? errno : error
        }
    }
}
