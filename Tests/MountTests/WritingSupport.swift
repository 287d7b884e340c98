import Foundation
import Glibc
import Platform
import TestSupport
import Testing
import UnderStores

extension S3Admin {
    /// All objects of the bucket with their bytes. Keys of the tests are plain ASCII, so that nothing needs unescaping.
    func contents() async throws -> [String: [UInt8]] {
        var objects: [String: [UInt8]] = [:]
        for key in try await keys() { objects[key] = try await get(key) }
        return objects
    }

    func keys() async throws -> [String] {
        var keys: [String] = []
        while true {
            let after = keys.last.map { [(name: "start-after", value: $0)] } ?? []
            let answer = try await send(
                S3Call("ListBucket", .get, query: [(name: "list-type", value: "2")] + after, verb: .list))
            let text = String(decoding: answer.body, as: UTF8.self)
            keys += text.components(separatedBy: "<Key>").dropFirst().map {
                $0.components(separatedBy: "</Key>")[0].replacingOccurrences(of: "&amp;", with: "&")
            }
            guard text.contains("<IsTruncated>true") else { return keys }
        }
    }

    func get(_ key: String) async throws -> [UInt8] {
        try await send(S3Call("GetObject", .get, key: ByteString(key), verb: .get)).body
    }

    /// Uploads in parts that were begun and not ended.
    func unfinishedUploads() async throws -> Int {
        let answer = try await send(
            S3Call("ListMultipartUploads", .get, query: [(name: "uploads", value: "")], verb: .list))
        return String(decoding: answer.body, as: UTF8.self).components(separatedBy: "<UploadId>").count - 1
    }
}

/// Names below a directory, with what they are: a file's bytes, a link's target, a directory.
struct WrittenTree: Equatable, Sendable {
    var files: [String: [UInt8]] = [:]
    var links: [String: String] = [:]
    var directories: Set<String> = []

    static func read(_ root: String) async throws -> WrittenTree {
        try await onThread {
            var tree = WrittenTree()
            try tree.add(root, below: "")
            return tree
        }
    }

    private mutating func add(_ directory: String, below prefix: String) throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
            let (path, key) = ("\(directory)/\(name)", prefix + name)
            let status = try FileStatus(of: path, flags: CInt(AT_SYMLINK_NOFOLLOW))
            if status.isSymbolicLink {
                links[key] = try FileManager.default.destinationOfSymbolicLink(atPath: path)
            } else if status.isDirectory {
                directories.insert(key)
                try add(path, below: key + "/")
            } else {
                files[key] = try SampleBytes.whole(path)
            }
        }
    }

    /// What differs, by name, without the bytes.
    func differences(from other: WrittenTree) -> [String] {
        var found: [String] = []
        for name in Set(files.keys).union(other.files.keys).sorted() where files[name] != other.files[name] {
            let sizes = [files[name], other.files[name]].map { $0.map { "\($0.count) bytes" } ?? "absent" }
            found.append("\(name): \(sizes[0]), there \(sizes[1])")
        }
        if links != other.links { found.append("links \(links), there \(other.links)") }
        found += directories.symmetricDifference(other.directories).sorted().map { "directory \($0)" }
        return found
    }
}

/// The layout is plain: each file and link of the tree is one object under its name, with its bytes, and nothing else
/// is there but markers of directories that exist.
func expectPlainLayout(
    _ bucket: S3Admin, of root: String, sourceLocation: SourceLocation = #_sourceLocation
) async throws {
    let tree = try await WrittenTree.read(root)
    var objects = WrittenTree()
    for (key, bytes) in try await bucket.contents() {
        if key.hasSuffix("/") {
            #expect(bytes.isEmpty, "the marker \(key)", sourceLocation: sourceLocation)
            objects.directories.insert(String(key.dropLast()))
        } else if tree.links[key] != nil {
            objects.links[key] = String(decoding: bytes, as: UTF8.self)
        } else {
            objects.files[key] = bytes
        }
    }
    let stray = objects.directories.subtracting(tree.directories)
    #expect(stray.isEmpty, "markers of directories that are not there", sourceLocation: sourceLocation)
    // A directory needs no marker while it has something in it.
    objects.directories = tree.directories
    let differences = objects.differences(from: tree)
    #expect(differences.isEmpty, "the bucket is not what the mount shows", sourceLocation: sourceLocation)
    #expect(try await bucket.unfinishedUploads() == 0, sourceLocation: sourceLocation)
}

extension LarderNode {
    /// Runs a bash script that ends at its first error, with the tools' Python in front, as `$1…` the arguments. A call
    /// that never returns ends it, as a failure.
    @discardableResult
    func shell(_ script: String, _ arguments: String...) async throws -> String {
        let result = try await shellOutcome(script, arguments)
        guard result.code == 0 else { throw TestSetupError("a script ended with \(result.code): \(result.output)") }
        return result.output
    }

    /// - Parameter limit: seconds.
    func shellOutcome(_ script: String, _ arguments: [String], limit: Int = 150) async throws -> Result {
        let prelude = """
            set -E; trap 'echo "failed: $BASH_COMMAND" >&2' ERR
            export PATH="\(TestTools.directory)/venv/bin:$PATH" TZ=UTC LC_ALL=C
            export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
            """
        return try await outcome(
            "timeout",
            ["-k", "5", "\(limit)", "bash", "-euo", "pipefail", "-c", prelude + "\n" + script, "script"] + arguments)
    }
}

/// A node with a writable mount of a new bucket.
func withWritableMount(
    _ server: any S3TestServer, _ options: [String] = [], sourceLocation: SourceLocation = #_sourceLocation,
    _ body: (_ node: LarderNode, _ mount: String, _ bucket: S3Admin) async throws -> Void
) async throws {
    try await withNode(LarderNode.credentials(of: server), sourceLocation: sourceLocation) { node in
        let bucket = try await server.makeBucket()
        let mount = try await node.mount(bucket, options: options)
        try await body(node, mount, bucket)
    }
}
