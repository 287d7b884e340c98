import Foundation
import Glibc
import Platform
import SystemPackage
import TestSupport
import Testing

/// Random operations on a real mount beside a reference that is a dictionary; the store changes behind the mount's back.
@Suite struct ModelTests {
    @Test(arguments: [1, 2, 3] as [UInt64])
    func aMountOfABucketBehavesLikeTheReference(seed: UInt64) async throws {
        let server = try await MotoServer.shared.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let bucket = try await server.makeBucket()
            let mount = try await node.mount(
                "s3://\(bucket.bucket)", "--endpoint", bucket.endpoint, "--metadata-ttl", "1h", "--negative-ttl", "1h",
                "--cache-size", "256MiB")
            var model = MountModel(seed: seed, mount: mount)
            for _ in 0..<4 {
                try await model.change(12, in: bucket)
                #expect(try await node.larder("sync", mount).code == 0)
                let expected = model
                await becomes("the kernel has been told of all changes") {
                    try await expected.lookUpAll() == expected.sizes
                }
                for _ in 0..<60 { try await model.step() }
                try await model.compareTrees()
            }
        }
    }
}

private struct MountModel {
    private var random: SeededGenerator
    private let mount: String
    private var files: [String: [UInt8]] = [:]
    /// Makes every version of a file differ in size, so that a stat tells which one the kernel believes in.
    private var serial = 0
    /// Open files, each with the bytes that it had when it was opened.
    private var handles: [(file: Descriptor, bytes: [UInt8])] = []
    private let names: [String]

    init(seed: UInt64, mount: String) {
        random = SeededGenerator(seed: seed)
        self.mount = mount
        names = ["a", "b", "dir/a", "dir/b", "dir/sub/c", "dir/sub/d", "other/e", "other/f", "top", "x/y/z/w"]
    }

    /// Puts and deletes objects. No name is a directory and a file, and none of a deleted directory is looked for as one.
    mutating func change(_ count: Int, in bucket: S3Admin) async throws {
        for _ in 0..<count {
            let name = names[Int.random(in: 0..<names.count, using: &random)]
            if files[name] != nil, Int.random(in: 0..<3, using: &random) == 0 {
                try await bucket.delete(ByteString(name))
                files[name] = nil
            } else {
                // From empty on, and from below a block to above it.
                let sizes = [0, 4096, 131_060, 400_000]
                let bytes = random.bytes(sizes[Int.random(in: 0..<sizes.count, using: &random)] + serial)
                serial += 1
                try await bucket.put(ByteString(name), bytes)
                files[name] = bytes
            }
        }
    }

    mutating func step() async throws {
        let name = names[Int.random(in: 0..<names.count, using: &random)]
        let path = "\(mount)/\(name)"
        let expected = files[name]
        switch Int.random(in: 0..<6, using: &random) {
        case 0:
            let size = try await onThread { Outcome { () throws(Errno) in Int(try FileStatus(of: path).size) } }
            #expect(size == Outcome(expected?.count), "\(name)")
        case 1:
            let bytes = try await onThread { Outcome { () throws(Errno) in try SampleBytes.whole(path) } }
            #expect(bytes == Outcome(expected), "\(name)")
        case 2:
            let opened = try await onThread { Result { () throws(Errno) in try Descriptor.open(path, O_RDONLY) } }
            switch opened {
            case .success(let file):
                #expect(expected != nil, "\(name) can be opened")
                handles.append((file, expected ?? []))
            case .failure(let error): #expect(error == .noSuchFileOrDirectory && expected == nil, "\(name): \(error)")
            }
        case 3 where !handles.isEmpty:
            handles.remove(at: Int.random(in: 0..<handles.count, using: &random))
        default: try await readFromHandle()
        }
    }

    /// A handle has the bytes of the version that it was opened for, or says that they are gone.
    private mutating func readFromHandle() async throws {
        guard !handles.isEmpty else { return }
        let (file, bytes) = handles[Int.random(in: 0..<handles.count, using: &random)]
        let offset = Int.random(in: 0...bytes.count, using: &random)
        let length = Int.random(in: 1...200_000, using: &random)
        let outcome = try await onThread { () -> [UInt8]? in
            do { return try SampleBytes.read(file, UInt64(offset), length) } catch let error as Errno {
                #expect(error == .staleNFSFileHandle)
                return nil
            }
        }
        if let outcome { #expect(outcome == Array(bytes[offset..<min(offset + length, bytes.count)])) }
    }

    /// By walking the directories, and by looking each name up.
    func compareTrees() async throws {
        let mount = mount
        let expected = sizes
        let walked = try await onThread { () -> [String: Int] in
            var found: [String: Int] = [:]
            for case let name as String in FileManager.default.enumerator(atPath: mount)
                ?? FileManager.DirectoryEnumerator()
            {
                let status = try FileStatus(of: "\(mount)/\(name)")
                if status.isRegularFile { found[name] = Int(status.size) }
            }
            return found
        }
        #expect(walked == expected)
        #expect(try await lookUpAll() == expected)
    }

    var sizes: [String: Int] { files.mapValues(\.count) }

    /// The sizes of all files that there are, by name.
    func lookUpAll() async throws -> [String: Int] {
        let (mount, names) = (mount, names)
        return try await onThread {
            var found: [String: Int] = [:]
            for name in names {
                if let status = try? FileStatus(of: "\(mount)/\(name)") { found[name] = Int(status.size) }
            }
            return found
        }
    }
}

/// What an operation gave, or its errno; printed without a file's bytes.
private enum Outcome<Value: Equatable & Sendable>: Equatable, Sendable, CustomTestStringConvertible {
    case value(Value)
    case failed(Errno)

    init(_ body: () throws(Errno) -> Value) {
        do throws(Errno) { self = .value(try body()) } catch { self = .failed(error) }
    }

    /// nil: there is no such file.
    init(_ expected: Value?) { self = expected.map { .value($0) } ?? .failed(.noSuchFileOrDirectory) }

    var testDescription: String {
        switch self {
        case .value(let value as [UInt8]): "\(value.count) bytes"
        case .value(let value): "\(value)"
        case .failed(let error): "\(error)"
        }
    }
}
