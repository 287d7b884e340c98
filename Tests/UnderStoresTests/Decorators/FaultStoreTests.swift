import Platform
import Testing

@testable import UnderStores

@Suite("FaultStore and PrefixedStore")
struct FaultStoreTests {
    let memory = MemoryStore(pieceSize: 10)
    let outage = StoreError(.unavailable, "planned")

    init() { memory.put("k", Array(0..<100)) }

    @Test("only the planned calls fail")
    func planned() async throws {
        let store = FaultStore(memory, rules: [.init(.lookup, on: "k", calls: 2...3, .fail(outage))])
        var outcomes: [Bool] = []
        for _ in 0..<5 { outcomes.append(await kind { _ = try await store.lookup("k") } == nil) }
        #expect(outcomes == [true, false, false, true, true])
        #expect(await kind { _ = try await store.lookup("other") } == nil)
        #expect(store.calls.count(.lookup) == 6 && memory.calls.count(.lookup) == 4)
    }

    @Test("a truncated read delivers its first bytes, then fails")
    func truncated() async throws {
        let store = FaultStore(memory, rules: [.init(.read, calls: 1...1, .truncate(after: 25, then: outage))])
        let sink = ContractSink(from: 10)
        #expect(await kind { try await store.read("k", range: 10..<90, expecting: nil, into: sink) } == .unavailable)
        #expect(sink.bytes == Array(10..<35) && sink.isInOrder)
        let again = ContractSink(from: 10)
        try await store.read("k", range: 10..<90, expecting: nil, into: again)
        #expect(again.bytes == Array(10..<90))
    }

    @Test("a paused read shows its first bytes before the gate opens")
    func paused() async throws {
        let gate = FaultGate()
        let store = FaultStore(memory, rules: [.init(.read, .pause(after: 30, gate))])
        let sink = ContractSink(from: 0)
        let reading = Task { try await store.read("k", range: 0..<100, expecting: nil, into: sink) }
        await gate.waitForArrivals(1)
        #expect(sink.bytes == Array(0..<30))
        gate.open()
        try await reading.value
        #expect(sink.bytes == Array(0..<100))
    }

    @Test("a held call waits for the gate; a cancelled one does not")
    func held() async throws {
        let gate = FaultGate()
        let store = FaultStore(memory, rules: [.init(.lookup, .hold(gate))])
        let cancelled = Task { await kind { _ = try await store.lookup("k") } }
        let patient = Task { try await store.lookup("k") }
        await gate.waitForArrivals(2)
        cancelled.cancel()
        #expect(await cancelled.value == .cancelled)
        #expect(memory.calls.count(.lookup) == 0)
        gate.open()
        #expect(try await patient.value?.size == 100)
        #expect(try await store.lookup("k")?.size == 100)
    }

    @Test("an object replaced in between is found out by its version")
    func replaced() async throws {
        let memory = memory
        let version = try await memory.lookup("k")?.version
        let store = FaultStore(memory, rules: [.init(.read, calls: 2...2, .perform { memory.put("k", [1]) })])
        try await store.read("k", range: 0..<10, expecting: version, into: ContractSink(from: 0))
        #expect(
            await kind { try await store.read("k", range: 10..<20, expecting: version, into: NoSink()) }
                == .versionChanged)
    }

    @Test("listings fail by page, and heal")
    func pages() async throws {
        let memory = MemoryStore(pageSize: 1)
        memory.put("a", [])
        memory.put("b", [])
        let store = FaultStore(memory, rules: [.init(.page, calls: 2...2, .fail(outage))])
        let listing = store.list("")
        #expect(try await listing.nextPage()?.entries.count == 1)
        #expect(await kind { _ = try await listing.nextPage() } == .unavailable)
        #expect(try await listing.nextPage()?.entries.map(\.name) == ["b"])
    }

    @Test("a prefixed store is the directory, and nothing beside it")
    func prefixed() async throws {
        memory.put("dir/sub/x", [1, 2])
        memory.put("dirt", [])
        let store = PrefixedStore(memory, prefix: "dir")
        #expect(store.identity.text == "memory://memory/dir")
        #expect(try await store.lookup("")?.kind == .directory)
        #expect(try await store.lookup("sub/x")?.size == 2)
        #expect(try await store.lookup("k") == nil)
        #expect(try await store.list("").nextPage()?.entries.map(\.name) == ["sub"])
        #expect(PrefixedStore(memory, prefix: "").identity == memory.identity)
    }
}
