import Coordination
import Platform
import SystemPackage
import Testing
import UnderStores

/// SplitMix64 (Steele, Lea, Flood 2014): the same stream for a seed on every machine.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// What a file system over a flat store must show: the reference that the model test compares with. Keys are bytes:
/// as Swift strings, the two spellings of "é" would be one.
private struct ReferenceTree {
    var objects: [ByteString: [UInt8]] = [:]

    /// Paths of visible files. An object is hidden by a directory of its name.
    var files: [ByteString: [UInt8]] {
        objects.filter { key, _ in !objects.keys.contains { $0.hasPrefix(key + "/") } }
    }

    func children(of directory: ByteString) -> Set<ByteString> {
        let prefix = directory.isEmpty ? "" : directory + "/"
        return Set(
            objects.keys.filter { $0.hasPrefix(prefix) }.compactMap {
                ByteString($0.bytes.dropFirst(prefix.count)).components.first
            })
    }
}

@Suite struct ModelTests {
    /// Operands wrap around the live set, so that every stream of numbers is a valid one.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func randomChangesInTheStoreAreSeenWholeByEveryRoute(seed: UInt64) async throws {
        let store = MemoryStore()
        let fixture = try CoordinatorFixture(stores: ["s3://m": store], quota: 4 << 20)
        let client = try fixture.client()
        let root = try await client.attach([("/", "s3://m")], ttl: 0).root
        var generator = SeededGenerator(seed: seed)
        var reference = ReferenceTree()
        let parts: [ByteString] = ["a", "b", "c", "a-b", "a.txt", "é", "e\u{301}", "x y", "%41"]
        for step in 0..<120 {
            let depth = Int.random(in: 1...4, using: &generator)
            var key: ByteString = ""
            for _ in 0..<depth {
                key = key.appending(component: parts[Int.random(in: 0..<parts.count, using: &generator)])
            }
            let live = reference.objects.keys.sorted()
            if live.isEmpty || Int.random(in: 0..<3, using: &generator) > 0 {
                let size =
                    Int.random(in: 0..<4, using: &generator) == 0
                    ? Int.random(in: 0..<600_000, using: &generator) : Int.random(in: 0..<2000, using: &generator)
                let fill = UInt8.random(in: 0...255, using: &generator)
                let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) &+ fill }
                store.put(key, bytes)
                reference.objects[key] = bytes
            } else {
                let victim = live[Int.random(in: 0..<live.count, using: &generator)]
                store.remove(victim)
                reference.objects[victim] = nil
            }
            if step % 10 == 9 { try await compare(client, root, reference, "seed \(seed), step \(step)") }
        }
        await fixture.finish()
    }

    private func compare(
        _ client: TestClient, _ root: UInt64, _ reference: ReferenceTree, _ place: Comment
    ) async throws {
        // By walking directories.
        var files: Set<ByteString> = []
        var pending: [(path: ByteString, inode: UInt64)] = [("", root)]
        while let (path, inode) = pending.popLast() {
            let names = try await client.names(inode)
            #expect(Set(names) == reference.children(of: path), place)
            #expect(Set(names).count == names.count, "a name twice; \(place)")
            for name in names {
                let child = try #require(try await client.lookup(inode, name), place)
                let full = path.appending(component: name)
                if child.mode & 0o170000 == 0o040000 { pending.append((full, child.inode)) } else { files.insert(full) }
            }
        }
        let expected = reference.files
        #expect(files == Set(expected.keys), place)
        // By looking each path up and reading it.
        for (path, bytes) in expected {
            let found = try #require(try await client.resolve(root, path), place)
            #expect(found.size == UInt64(bytes.count), place)
            let contents = try await client.contents(found.inode)
            #expect(contents == bytes, place)
        }
    }
}
