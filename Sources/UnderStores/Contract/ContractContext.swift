import Platform

/// What the checks work on: the store, and some of its objects.
final class ContractContext: Sendable {
    struct Sample: Sendable {
        let path: ByteString
        let attributes: ObjectAttributes
    }

    private struct Samples {
        var files: [Sample] = []
        var directories: [ByteString] = []
        var links: [Sample] = []
    }

    let store: any UnderStore
    let fixture: (any ContractFixture)?
    private let samples = Lock(Samples())

    /// A name that no user has.
    let missing: ByteString = "larder-contract-no-such-name"

    // Bounds on what a user's store is asked for.
    private static let mostFiles = 8
    private static let mostDirectories = 16
    private static let mostNames = 1000
    /// Objects longer than this are read in parts only.
    static let longestWhole: UInt64 = 16 << 20

    init(store: any UnderStore, fixture: (any ContractFixture)?) {
        self.store = store
        self.fixture = fixture
    }

    /// Finds objects to work on, breadth first; with a fixture, makes them first.
    func prepare() async throws {
        if let fixture {
            try await fixture.put("sample/large", Self.pattern(3 << 20 | 17, seed: 1))
            try await fixture.put("sample/small", Self.pattern(1000, seed: 2))
            try await fixture.put("sample/single", [42])
            try await fixture.put("sample/empty", [])
            try await fixture.put("sample/inner/deep/object", Self.pattern(5000, seed: 3))
            do { try await fixture.link("sample/link", to: "small") } catch is ContractNotApplicable {}
        }
        var found = Samples()
        var queue: [ByteString] = [""]
        while !queue.isEmpty, found.directories.count < Self.mostDirectories {
            let directory = queue.removeFirst()
            found.directories.append(directory)
            for entry in try await names(of: directory, limit: Self.mostNames).entries {
                let path = directory.appending(component: entry.name)
                let sample = Sample(path: path, attributes: entry.attributes)
                switch entry.attributes.kind {
                case .directory: queue.append(path)
                case .symbolicLink: found.links.append(sample)
                case .file where found.files.count < Self.mostFiles:
                    // Of a partial listing only the lookup tells a link from a file.
                    if sample.attributes.isPartial, let whole = try await store.lookup(path),
                        whole.kind == .symbolicLink
                    {
                        found.links.append(Sample(path: path, attributes: whole))
                    } else {
                        found.files.append(sample)
                    }
                case .file, .special: break
                }
            }
        }
        samples.withLock { [found] in $0 = found }
    }

    var files: [Sample] { samples.withLock { $0.files } }
    var directories: [ByteString] { samples.withLock { $0.directories } }
    var links: [Sample] { samples.withLock { $0.links } }

    func anyFile() throws -> Sample {
        guard let file = files.first else { throw ContractNotApplicable("no object was found to test with") }
        return file
    }

    /// The longest sampled object that has at least `bytes`.
    func file(ofAtLeast bytes: UInt64, atMost most: UInt64 = .max) throws -> Sample {
        let fitting = files.filter { $0.attributes.size >= bytes && $0.attributes.size <= most }
        guard let file = fitting.max(by: { $0.attributes.size < $1.attributes.size }) else {
            throw ContractNotApplicable("no object of at least \(bytes) bytes was found")
        }
        return file
    }

    func needFixture() throws -> any ContractFixture {
        guard let fixture else { throw ContractNotApplicable("it would have to write to the store") }
        return fixture
    }

    /// A listing from its start until it ends or has `limit` names. Fails on a name that is shown twice.
    func names(
        of directory: ByteString, limit: Int = .max
    ) async throws -> (entries: [DirectoryEntry], unnameable: Int, shadowed: [ByteString], pages: Int) {
        let listing = store.list(directory)
        var entries: [DirectoryEntry] = []
        var seen: Set<ByteString> = []
        var (unnameable, pages) = (0, 0)
        var shadowed: [ByteString] = []
        while entries.count < limit, let page = try await listing.nextPage() {
            for entry in page.entries {
                try expect(entry.name.isNameable, "the listing of \"\(directory)\" shows the name \"\(entry.name)\"")
                try expect(
                    seen.insert(entry.name).inserted, "the listing of \"\(directory)\" shows \"\(entry.name)\" twice")
            }
            entries += page.entries
            unnameable += page.unnameable
            shadowed += page.shadowed
            pages += 1
        }
        return (entries, unnameable, shadowed, pages)
    }

    /// Reads a range, checking that every byte came once and in order.
    func read(
        _ path: ByteString, _ range: Range<UInt64>, expecting version: ObjectVersion? = nil
    ) async throws -> [UInt8] {
        let sink = ContractSink(from: range.lowerBound)
        try await store.read(path, range: range, expecting: version, into: sink)
        let bytes = sink.bytes
        try expect(sink.isInOrder, "the bytes of \"\(path)\" did not come in order")
        try expect(
            bytes.count == range.count, "a read of \(range.count) bytes of \"\(path)\" gave \(bytes.count) bytes")
        return bytes
    }

    /// Fails unless `body` throws a store error of one of `kinds`.
    func expectError(
        _ kinds: StoreError.Kind..., from action: String, _ body: () async throws -> Void
    ) async throws {
        do { try await body() } catch let error as StoreError {
            let wanted = kinds.map(\.rawValue).joined(separator: " or ")
            try expect(kinds.contains(error.kind), "\(action) gave \(error.kind.rawValue), not \(wanted): \(error)")
            try expect(!error.message.isEmpty && !error.message.contains("\n"), "an error is not one line: \(error)")
            return
        }
        throw ContractFailure(description: "\(action) succeeded")
    }

    /// Bytes without a short period, so that swapped or shifted pieces are noticed.
    static func pattern(_ count: Int, seed: UInt64) -> [UInt8] {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        return (0..<count).map { _ in
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return UInt8(truncatingIfNeeded: state >> 24)
        }
    }

    static func checksum(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { CRC32C.of($0) } }
}

/// Collects what a read delivers.
final class ContractSink: ReadSink {
    struct Refusal: Error {}

    private struct State {
        var bytes: [UInt8] = []
        var isInOrder = true
    }

    private let start: UInt64
    private let state = Lock(State())
    private let onBytes: @Sendable () throws -> Void

    /// - Parameter onBytes: called before bytes are taken; what it throws is thrown to the store.
    init(from start: UInt64, onBytes: @escaping @Sendable () throws -> Void = {}) {
        self.start = start
        self.onBytes = onBytes
    }

    func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        try onBytes()
        state.withLock { state in
            if offset != start + UInt64(state.bytes.count) { state.isInOrder = false }
            state.bytes += bytes
        }
    }

    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var isInOrder: Bool { state.withLock { $0.isInOrder } }
}
