import Foundation
import Platform
import TestSupport

/// Files that a test has in a store and in a plain directory, to compare the two.
struct SampleTree: Sendable {
    /// Paths without leading slash.
    private(set) var files: [ByteString: [UInt8]] = [:]

    init(_ files: [ByteString: [UInt8]] = [:]) { self.files = files }

    /// Names and sizes of all kinds: empty, one byte, around a block, several blocks, nested, beyond ASCII, odd characters.
    static func mixed(seed: UInt64 = 1) -> SampleTree {
        var random = SeededGenerator(seed: seed)
        var tree = SampleTree()
        tree.files["empty"] = []
        tree.files["one"] = [42]
        tree.files["text.txt"] = Array("first line\nneedle in a haystack\nlast line\n".utf8)
        for size in [131_071, 131_072, 131_073, 1 << 20, 3 << 20 | 17] {
            tree.files[ByteString("data/size-\(size)")] = random.bytes(size)
        }
        tree.files["data/deep/er/and/deeper/file"] = random.bytes(1000)
        tree.files["names/with space"] = Array("space\n".utf8)
        tree.files["names/größe-データ-🦀"] = Array("unicode\n".utf8)
        tree.files["names/e\u{301}"] = Array("decomposed\n".utf8)
        tree.files["names/\u{e9}"] = Array("composed\n".utf8)
        tree.files["names/plus+percent%41&amp;<tag>'\"?#"] = Array("escapes\n".utf8)
        tree.files["names/-dash"] = Array("needle too\n".utf8)
        tree.files["names/.hidden"] = Array("hidden\n".utf8)
        for index in 0..<40 { tree.files[ByteString("many/file-\(index)")] = Array("number \(index)\n".utf8) }
        return tree
    }

    /// All files below a directory, as they are there.
    static func read(_ directory: String) throws -> SampleTree {
        var tree = SampleTree()
        for case let name as String in FileManager.default.enumerator(atPath: directory)
            ?? FileManager.DirectoryEnumerator()
        {
            guard try FileStatus(of: "\(directory)/\(name)").isRegularFile else { continue }
            tree.files[ByteString(name)] = Array(try Data(contentsOf: URL(fileURLWithPath: "\(directory)/\(name)")))
        }
        return tree
    }

    func write(to directory: TemporaryDirectory, below prefix: String = "") throws {
        for (name, bytes) in files {
            try directory.write(prefix.isEmpty ? name.description : "\(prefix)/\(name)", bytes)
        }
    }

    func upload(to bucket: S3Admin, below prefix: String = "") async throws {
        for (name, bytes) in files.sorted(by: { $0.key < $1.key }) {
            try await bucket.put(ByteString(prefix).appending(component: name), bytes)
        }
    }
}
