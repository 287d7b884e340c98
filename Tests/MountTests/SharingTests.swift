import Foundation
import Glibc
import Platform
import SystemPackage
import TestSupport
import Testing

@Suite struct SharingTests {
    @Test(arguments: TestedServer.allCases)
    func theSecondMountAsksTheStoreNothing(server: TestedServer) async throws {
        let server = try await server.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try await SampleTree.mixed().upload(to: bucket)
            try SampleTree.mixed().write(to: node.directory, below: "reference")
            let options = ["--endpoint", bucket.endpoint, "--metadata-ttl", "1h", "--negative-ttl", "1h"]
            let first = try await node.mount("s3://\(bucket.bucket)", options[0], options[1], options[2], options[3])
            try await node.run("diff", "-r", node.directory.file("reference"), first)
            let before = try await node.status()
            #expect(before.requests > 0)
            let second = try await node.mount("s3://\(bucket.bucket)", options[0], options[1], options[2], options[3])
            try await node.run("diff", "-r", node.directory.file("reference"), second)
            let after = try await node.status()
            #expect(after.mounts.count == 2)
            #expect(after.requests == before.requests)
            #expect(after.stores.count == 1)
        }
    }

    @Test func theCacheSurvivesAKilledCoordinator() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let bytes = SampleBytes.make(8 << 20, seed: 3)
            try await bucket.put("large", bytes)
            try await bucket.put("other", "other")
            let mount = try await node.mount(bucket)
            #expect(try await onThread { try SampleBytes.whole("\(mount)/large") } == bytes)
            let handle = try await onThread { try Descriptor.open("\(mount)/large", O_RDONLY) }

            let killed = try await node.status().coordinator.pid
            // The index is written a moment after the data; what a crash loses of it is fetched again, never wrong.
            await becomes("the cache knows of the file") { try await node.status().cache.tiers.first?.files == 1 }
            try SignalWatch.send(SIGKILL, to: killed)
            await becomes("the coordinator is gone") { !ChildProcess.isRunning(killed) }

            #expect(
                try await onThread { try SampleBytes.read(handle, 5 << 20, 1 << 20) } == Array(bytes[5 << 20..<6 << 20])
            )
            #expect(try await onThread { try SampleBytes.whole("\(mount)/other") } == Array("other".utf8))
            let second = try await node.mount(bucket)
            #expect(try await onThread { try SampleBytes.whole("\(second)/large") } == bytes)
            let status = try await node.status()
            #expect(status.coordinator.pid != killed)
            #expect(status.mounts.count == 2)
            #expect(status.requests("GET") <= 1, "only the other file came from the store")
            withExtendedLifetime(handle) {}
        }
    }

    @Test func theCacheSurvivesARestart() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let bytes = SampleBytes.make(8 << 20, seed: 4)
            try await bucket.put("large", bytes)
            let first = try await node.mount(bucket)
            #expect(try await onThread { try SampleBytes.whole("\(first)/large") } == bytes)
            try await node.umount(first)
            await becomes("the coordinator has left") { node.processes().isEmpty }
            let second = try await node.mount(bucket)
            #expect(try await onThread { try SampleBytes.whole("\(second)/large") } == bytes)
            #expect(try await node.status().requests("GET") == 0)
        }
    }
}

@Suite struct ChangeTests {
    @Test func anOpenFileNeverMixesVersions() async throws {
        let server = try await JuiceFSGateway.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let size = 24 << 20
            try await bucket.put("object", [UInt8](repeating: 0x41, count: size))
            let mount = try await node.mount(bucket)
            let handle = try await onThread { try Descriptor.open("\(mount)/object", O_RDONLY) }
            #expect(
                try await onThread { try SampleBytes.read(handle, 0, 4096) } == [UInt8](repeating: 0x41, count: 4096))
            try await bucket.put("object", [UInt8](repeating: 0x42, count: size))
            for offset in stride(from: 0, to: size, by: 3 << 20) {
                let outcome = try await onThread { () -> [UInt8]? in
                    do { return try SampleBytes.read(handle, UInt64(offset), 4096) } catch let error as Errno {
                        #expect(error == .staleNFSFileHandle)
                        return nil
                    }
                }
                if let outcome { #expect(outcome.allSatisfy { $0 == 0x41 }, "at \(offset)") }
            }
            #expect(try await node.larder("sync", mount).code == 0)
            let fresh = try await onThread { try SampleBytes.whole("\(mount)/object") }
            #expect(fresh.count == size && fresh.allSatisfy { $0 == 0x42 })
            withExtendedLifetime(handle) {}
        }
    }

    @Test func changesAreSeenAfterTheTTL() async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            try await bucket.put("file", "before")
            let mount = try await node.mount(
                "s3://\(bucket.bucket)", "--endpoint", bucket.endpoint, "--metadata-ttl", "0", "--negative-ttl", "0")
            #expect(try await node.run("cat", "\(mount)/file") == "before")
            try await bucket.put("file", "after it")
            #expect(try await node.run("cat", "\(mount)/file") == "after it")
            try await bucket.put("new", "new")
            #expect(try await node.run("cat", "\(mount)/new") == "new")
            try await bucket.delete("file")
            await #expect(throws: (any Error).self) { try await node.run("cat", "\(mount)/file") }
        }
    }
}

@Suite struct OutageTests {
    @Test func aStoreThatGoesAwayIsAnInputOutputErrorUntilItIsBack() async throws {
        let server = try await JuiceFSGateway.start()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let bytes = SampleBytes.make(64 << 20, seed: 5)
            try await bucket.put("large", bytes)
            let mount = try await node.mount(bucket)
            let handle = try await onThread { try Descriptor.open("\(mount)/large", O_RDONLY) }
            #expect(try await onThread { try SampleBytes.read(handle, 0, 4096) } == Array(bytes[..<4096]))
            await server.stop()
            let end = UInt64(bytes.count - 4096)
            let error = try await onThread { () -> Errno? in
                do {
                    _ = try SampleBytes.read(handle, end, 4096)
                    return nil
                } catch let error as Errno { return error }
            }
            #expect(error == .ioError)
            // What is cached is still there.
            #expect(try await onThread { try SampleBytes.read(handle, 0, 4096) } == Array(bytes[..<4096]))
            let again = try await server.restarted()
            #expect(try await onThread { try SampleBytes.read(handle, end, 4096) } == Array(bytes[Int(end)...]))
            #expect(try await onThread { try SampleBytes.whole("\(mount)/large") } == bytes)
            withExtendedLifetime((handle, again)) {}
        }
    }
}

/// Bytes of files, in this process; each call blocks.
enum SampleBytes {
    static func make(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        return random.bytes(count)
    }

    static func read(_ file: Descriptor, _ offset: UInt64, _ count: Int) throws(Errno) -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 4096)
        defer { buffer.deallocate() }
        let length = try file.read(into: buffer, at: offset)
        return Array(buffer[..<length])
    }

    static func whole(_ path: String) throws(Errno) -> [UInt8] {
        let file = try Descriptor.open(path, O_RDONLY)
        return try read(file, 0, Int(try file.status().size))
    }
}
