import Platform
import Testing

@testable import UnderStores

@Suite("MemoryStore")
struct MemoryStoreTests {
    @Test("pages of any size show the same names, once each", arguments: [1, 2, 3, 7, 1000])
    func pages(size: Int) async throws {
        let store = MemoryStore(pageSize: size)
        for key: ByteString in ["a", "a-b", "a/b", "a/c", "a0", "b", "c/d/e", "c//f", "c/", "./x", "z"] {
            store.put(key, [])
        }
        let listing = store.list("")
        var names: [ByteString] = []
        var (unnameable, shadowed): (Int, [ByteString]) = (0, [])
        while let page = try await listing.nextPage() {
            #expect(page.entries.count + page.unnameable <= size)
            names += page.entries.map(\.name)
            unnameable += page.unnameable
            shadowed += page.shadowed
        }
        #expect(names == ["a-b", "a", "a0", "b", "c", "z"])
        #expect(shadowed == ["a"])
        #expect(unnameable == 1)
    }

    @Test("a listing goes on after the last name it showed while keys come and go")
    func changesWhileListing() async throws {
        let store = MemoryStore(pageSize: 2)
        for key: ByteString in ["b", "d", "f", "h"] { store.put(key, []) }
        let listing = store.list("")
        #expect(try await listing.nextPage()?.entries.map(\.name) == ["b", "d"])
        store.put("a", [])
        store.put("e", [])
        store.remove("f")
        #expect(try await listing.nextPage()?.entries.map(\.name) == ["e", "h"])
    }

    @Test("calls are counted with their ranges")
    func counting() async throws {
        let store = MemoryStore()
        store.put("k", Array(repeating: 1, count: 100))
        _ = try await store.lookup("k")
        try await store.read("k", range: 10..<30, expecting: nil, into: ContractSink(from: 10))
        _ = try await store.list("").nextPage()
        #expect(store.calls.all.map(\.operation) == [.lookup, .read, .page])
        #expect(store.calls.bytesRead == 20)
        #expect(store.counters.requests == 3)
    }

    @Test("keys that look alike but have different bytes are different objects")
    func canonicalEquivalence() async throws {
        let store = MemoryStore()
        store.put(ByteString("caf\u{e9}"), [1])
        store.put(ByteString("cafe\u{301}"), [2])
        #expect(store.keys.count == 2)
        #expect(store.bytes(of: ByteString("caf\u{e9}")) == [1])
    }
}
