import Platform
import Testing

@testable import UnderStores

@Suite("The under-store contract")
struct StoreContractTests {
    @Test("holds for memory", arguments: [(1000, 1 << 20), (3, 1000)])
    func memory(pageSize: Int, pieceSize: Int) async throws {
        let store = MemoryStore(pageSize: pageSize, pieceSize: pieceSize)
        let results = await StoreContract(store, fixture: MemoryFixture(store: store)).run()
        expectAllPassed(
            results,
            except: [
                "a symbolic link is shown with its target",
                "a source descriptor gives the object's bytes, and only of the expected version", "the space adds up",
            ])
    }

    @Test("holds for a local directory")
    func local() async throws {
        let scratch = try ScratchDirectory()
        let store = try LocalStore(root: scratch.path)
        let results = await StoreContract(store, fixture: LocalFixture(scratch: scratch)).run()
        expectAllPassed(results, except: flatKeyNames)
    }

    @Test("holds through a prefix and a decorator")
    func decorated() async throws {
        let scratch = try ScratchDirectory()
        scratch.makeDirectory("below")
        let inner = try LocalStore(root: scratch.path)
        let store = FaultStore(PrefixedStore(inner, prefix: "below"))
        let fixture = LocalFixture(scratch: scratch, prefix: "below")
        expectAllPassed(await StoreContract(store, fixture: fixture).run(), except: flatKeyNames)
    }

    @Test("reads what is there, and changes nothing, without a fixture")
    func readOnly() async throws {
        let store = MemoryStore()
        store.put("a/b/c", ContractContext.pattern(100_000, seed: 5))
        store.put("d", [1, 2, 3])
        let keys = store.keys
        let results = await StoreContract(store).run()
        #expect(results.map(\.name) == StoreContract.checks)
        let failures = results.filter { if case .failed = $0.outcome { true } else { false } }
        #expect(failures.isEmpty, "\(failures)")
        #expect(results.count { $0.outcome == .passed } >= 18)
        #expect(store.keys == keys)
    }

    @Test("an empty store passes what applies to it")
    func emptyStore() async {
        let results = await StoreContract(MemoryStore()).run()
        #expect(!results.contains { if case .failed = $0.outcome { true } else { false } })
    }

    @Test("a store that is down fails with its own reason")
    func unreachable() async {
        let down = StoreError(.unavailable, "nobody there")
        let rules = StoreCallLog.Operation.allCases.map { FaultStore.Rule($0, .fail(down)) }
        let results = await StoreContract(FaultStore(MemoryStore(), rules: rules)).run()
        #expect(results.map(\.outcome) == [.failed("nobody there")])
    }

    @Test("a store that breaks the contract is found out", arguments: LyingStore.Lie.allCases)
    func lies(lie: LyingStore.Lie) async {
        let memory = MemoryStore()
        let store = LyingStore(base: memory, lie: lie)
        let results = await StoreContract(store, fixture: MemoryFixture(store: memory)).run()
        let failed = results.filter { if case .failed = $0.outcome { true } else { false } }.map(\.name)
        #expect(failed.contains(lie.rawValue), "\(failed)")
    }

    private var flatKeyNames: [String] {
        [
            "keys that no file can have are counted and not shown",
            "an object beside a directory of its name is hidden and reported",
            "a marker object makes a directory, and is not in it",
        ]
    }
}

/// Fails for each check that did not pass; those in `exceptions` must not apply.
func expectAllPassed(_ results: [ContractResult], except exceptions: [String] = []) {
    #expect(results.map(\.name) == StoreContract.checks)
    for result in results {
        switch result.outcome {
        case .passed: #expect(!exceptions.contains(result.name), "\(result.name): expected not to apply")
        case .failed(let reason): Issue.record("\(result.name): \(reason)")
        case .notApplicable(let reason): #expect(exceptions.contains(result.name), "\(result.name): \(reason)")
        }
    }
}

struct MemoryFixture: ContractFixture {
    let store: MemoryStore
    var hasFlatKeys: Bool { true }
    func put(_ path: ByteString, _ bytes: [UInt8]) { store.put(path, bytes) }
    func remove(_ path: ByteString) { store.remove(path) }
}

struct LocalFixture: ContractFixture {
    let scratch: ScratchDirectory
    var prefix: ByteString = ""
    var hasFlatKeys: Bool { false }
    func put(_ path: ByteString, _ bytes: [UInt8]) throws { try scratch.write(full(path), bytes) }
    func remove(_ path: ByteString) throws { try scratch.remove(full(path)) }
    func link(_ path: ByteString, to target: ByteString) throws { try scratch.link(full(path), to: target) }
    private func full(_ path: ByteString) -> ByteString { prefix.isEmpty ? path : prefix.appending(component: path) }
}

/// A store that breaks one rule; the raw value names the check that must notice.
struct LyingStore: UnderStore {
    enum Lie: String, CaseIterable {
        case ignoresVersions = "reading with a wrong expected version fails with versionChanged, without a byte"
        case readsShort = "every range gives the bytes of that range"
        case lookupDiffers = "a lookup finds what a listing shows: kind, size and version"
        case repeatsNames = "a long listing comes whole"
        case swallowsSinkErrors = "a reader that fails ends the read with its own error"
        case inventsNames = "a missing name is absent"
    }

    let base: MemoryStore
    let lie: Lie
    var identity: StoreIdentity { base.identity }

    func lookup(_ path: ByteString) async throws(StoreError) -> ObjectAttributes? {
        var found = try await base.lookup(path)
        if lie == .lookupDiffers, found?.kind == .file { found?.size += 1 }
        if lie == .inventsNames, found == nil { return ObjectAttributes(kind: .file, modified: FileTime(seconds: 0)) }
        return found
    }

    func list(_ path: ByteString) -> any DirectoryListing {
        lie == .repeatsNames ? Repeating(base.list(path)) : base.list(path)
    }

    func read(
        _ path: ByteString, range: Range<UInt64>, expecting version: ObjectVersion?, into sink: any ReadSink
    ) async throws(StoreError) {
        let shown = lie == .readsShort && range.count > 1 ? range.lowerBound..<range.upperBound - 1 : range
        do throws(StoreError) {
            try await base.read(path, range: shown, expecting: lie == .ignoresVersions ? nil : version, into: sink)
        } catch {
            if lie == .swallowsSinkErrors, error.kind == .sink { return }
            throw error
        }
    }

    private final class Repeating: DirectoryListing {
        private let base: any DirectoryListing
        private let last = Lock<ListingPage?>(nil)
        init(_ base: any DirectoryListing) { self.base = base }

        func nextPage() async throws(StoreError) -> ListingPage? {
            if let page = try await base.nextPage() {
                last.withLock { $0 = page }
                return page
            }
            // Once more, in directories too long for the first look at them.
            return last.withLock { last in
                defer { last = nil }
                return last.flatMap { $0.entries.count > 50 ? $0 : nil }
            }
        }
    }
}
