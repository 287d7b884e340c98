import Platform

extension StoreContract {
    /// The names of the checks of `runObjectWriting`, in the order in which they run.
    package static var objectWritingChecks: [String] { allObjectWriting.map(\.name) }

    private static let allObjectWriting = [probeCheck] + objectChecks + uploadChecks + copyChecks + treeChecks

    /// Runs the checks of `ObjectWriting`, one after the other, on objects below a new directory
    /// `.larder-probe-contract-…` in `directory`, which is gone again at the end. Never throws.
    ///
    /// What the store says it does not have (`.unsupported`) does not apply. A store that refuses the first change by its
    /// policy is not asked for more.
    /// - Parameter isStopped: asked between the checks: whether to end now, with what is there removed.
    /// - Returns: nothing for a store whose objects are not replaced as a whole.
    @discardableResult
    package func runObjectWriting(
        in directory: ByteString = "", isStopped: @Sendable () -> Bool = { false },
        report: @escaping @Sendable (ContractResult) -> Void = { _ in }
    ) async -> [ContractResult] {
        guard let writer = store.objectWriting else { return [] }
        let context = WritingContext(
            store: store, writer: writer, root: directory.appending(component: Self.probeDirectory()))
        var log = ContractLog(isOptional: true, report)
        for check in Self.allObjectWriting where !isStopped() {
            let isRefused = await log.record(check.name) { try await check.body(context) }
            if isRefused, log.results.count == 1 {
                // Nothing was written, as far as one can tell.
                try? await context.cleanUp()
                return log.results
            }
        }
        await log.recordFailure("what was written can be removed") { try await context.cleanUp() }
        return log.results
    }

    /// A new name for a directory of the contract's own, which mounts do not show.
    static func probeDirectory() -> ByteString {
        S3Probe.mark + ByteString("contract-" + String(UInt64.random(in: 0 ... .max), radix: 36))
    }

    private static let probeCheck = WritingCheck("what is enforced is found out without leaving anything") { context in
        let found = try await context.writer.probeConditions(in: context.path("probed"))
        try expect(found.isKnown && context.writer.conditions == found, "it is not known afterwards")
        try expect(try await context.keys(under: "probed").isEmpty, "something was left")
        let uploads = try await context.uploads(under: context.path("probed"))
        try expect(uploads.isEmpty, "an upload was left")
        let names = [
            ("PUT if absent", found.putAbsent), ("PUT if unchanged", found.putVersion),
            ("completion if absent", found.completeAbsent), ("completion if unchanged", found.completeVersion),
        ]
        let enforced = names.filter(\.1).map(\.0)
        return enforced.isEmpty ? "nothing is enforced" : "enforced: " + enforced.joined(separator: ", ")
    }
}

/// The results of a run, as they come.
struct ContractLog {
    private(set) var results: [ContractResult] = []
    private let report: @Sendable (ContractResult) -> Void
    private let isOptional: Bool

    /// - Parameter isOptional: what the store says it does not have (`.unsupported`) does not apply.
    init(isOptional: Bool, _ report: @escaping @Sendable (ContractResult) -> Void) {
        self.isOptional = isOptional
        self.report = report
    }

    /// Runs a check, which returns a note. Returns whether the store's policy has refused it.
    @discardableResult
    mutating func record(_ name: String, _ body: () async throws -> String) async -> Bool {
        let start = MonotonicClock.now()
        do {
            let note = try await body()
            add(name, start, .passed, note)
        } catch let reason as ContractNotApplicable {
            add(name, start, .notApplicable(reason.reason))
        } catch let error as StoreError where error.kind == .unsupported && isOptional {
            add(name, start, .notApplicable(error.message))
        } catch {
            add(name, start, .failed("\(error)"))
            return (error as? StoreError)?.kind == .accessDenied
        }
        return false
    }

    /// Runs a step that has a result only when it fails.
    mutating func recordFailure(_ name: String, _ body: () async throws -> Void) async {
        let start = MonotonicClock.now()
        do { try await body() } catch { add(name, start, .failed("\(error)")) }
    }

    private mutating func add(
        _ name: String, _ start: UInt64, _ outcome: ContractResult.Outcome, _ note: String = ""
    ) {
        let duration = Duration.nanoseconds(Int64(MonotonicClock.now() - start))
        let result = ContractResult(name: name, outcome: outcome, note: note, duration: duration)
        results.append(result)
        report(result)
    }
}

struct WritingCheck: Sendable {
    let name: String
    /// Returns a note.
    let body: @Sendable (WritingContext) async throws -> String

    init(_ name: String, _ body: @escaping @Sendable (WritingContext) async throws -> String) {
        self.name = name
        self.body = body
    }
}

/// What the checks of writing work on: a store, and a directory that is theirs.
struct WritingContext: Sendable {
    let store: any UnderStore
    let writer: any ObjectWriting
    let root: ByteString
    /// Every upload that was begun, as not all stores list them by directory.
    let begun = Lock<[(path: ByteString, upload: UploadID)]>([])

    init(store: any UnderStore, writer: any ObjectWriting, root: ByteString) {
        self.store = store
        self.writer = writer
        self.root = root
    }

    func path(_ name: ByteString) -> ByteString { root.appending(component: name) }

    /// A memory file with the bytes.
    func body(_ bytes: [UInt8], checksum: UInt32? = nil) throws -> UploadBody {
        let file = try Descriptor.memory(named: "larder-contract")
        // Not at its beginning, so that offsets are told apart.
        try bytes.withUnsafeBytes { try file.write($0, at: 7) }
        return UploadBody(file: file, range: 7..<(7 + UInt64(bytes.count)), checksum: checksum)
    }

    @discardableResult
    func put(
        _ name: ByteString, _ bytes: [UInt8], _ metadata: WrittenMetadata = .init(),
        if condition: WriteCondition = .none
    ) async throws -> ObjectAttributes {
        try await writer.put(path(name), body(bytes), metadata, if: condition)
    }

    func read(_ name: ByteString) async throws -> [UInt8] {
        guard let found = try await store.lookup(path(name)) else {
            throw ContractFailure(description: "\"\(name)\" is not found")
        }
        let sink = ContractSink(from: 0)
        if found.size > 0 {
            try await store.read(path(name), range: 0..<found.size, expecting: found.version, into: sink)
        }
        return sink.bytes
    }

    func expectAbsent(_ name: ByteString) async throws {
        try expect(try await store.lookup(path(name)) == nil, "\"\(name)\" is there")
    }

    /// Fails unless a lookup shows what the call has returned.
    func expectFound(_ made: ObjectAttributes, at name: ByteString) async throws {
        guard let found = try await store.lookup(path(name)) else {
            throw ContractFailure(description: "\"\(name)\" is not found")
        }
        try expect(
            found.kind == made.kind && found.size == made.size && found.version == made.version,
            "\"\(name)\" is \(found.kind) of \(found.size) bytes, version \(found.version?.description ?? "none"), "
                + "but was said to be \(made.kind) of \(made.size) bytes, version \(made.version?.description ?? "none")"
        )
    }

    func expectError(
        _ kinds: StoreError.Kind..., from action: String, _ body: () async throws -> Void
    ) async throws {
        do { try await body() } catch let error as StoreError {
            if error.kind == .unsupported { throw error }
            let wanted = kinds.map(\.rawValue).joined(separator: " or ")
            try expect(kinds.contains(error.kind), "\(action) gave \(error.kind.rawValue), not \(wanted): \(error)")
            try expect(!error.message.isEmpty && !error.message.contains("\n"), "an error is not one line: \(error)")
            return
        }
        throw ContractFailure(description: "\(action) succeeded")
    }

    /// Every key below the directory, without its path.
    func keys(under name: ByteString = "") async throws -> [ByteString] {
        let directory = name.isEmpty ? root : path(name)
        let listing = writer.keys(under: directory)
        var keys: [ByteString] = []
        while let page = try await listing.nextPage() {
            for entry in page {
                try expect(entry.key.hasPrefix(directory + "/"), "a key of elsewhere is listed: \"\(entry.key)\"")
                keys.append(ByteString(entry.key.bytes.dropFirst(directory.count + 1)))
            }
        }
        return keys
    }

    /// Again while something turns up: where directories are real, one without entries shows itself as a marker.
    func removeAll(under name: ByteString) async throws {
        let directory = name.isEmpty ? root : path(name)
        for _ in 0..<8 {
            let left = try await keys(under: name)
            if left.isEmpty { return }
            let failures = try await writer.removeAll(left.map { directory + "/" + $0 })
            if let failure = failures.first { throw failure.error }
        }
        let left = try await keys(under: name)
        try expect(left.isEmpty, "\(left.count) keys are left below \"\(directory)\", among them \(left[0])")
    }

    /// Uploads under way; none where the store does not list them.
    func uploads(under directory: ByteString) async throws -> [PendingUpload] {
        do throws(StoreError) { return try await writer.uploads(under: directory) } catch {
            guard error.kind == .unsupported || error.kind == .invalid else { throw error }
            return []
        }
    }

    /// Removes all that the checks have made; what cannot be removed is no reason to leave the rest.
    func cleanUp() async throws {
        var failure: (any Error)?
        func attempt(_ body: () async throws -> Void) async {
            do { try await body() } catch { failure = failure ?? error }
        }
        for (path, upload) in begun.withLock({ $0 }) {
            // One that was completed may be an error to some.
            try? await writer.abortUpload(upload, of: path)
        }
        await attempt {
            for upload in try await uploads(under: root) {
                try await writer.abortUpload(upload.upload, of: upload.path)
            }
        }
        await attempt { try await removeAll(under: "") }
        await attempt { try await writer.removeDirectory(root) }
        await attempt {
            try expect(try await store.lookup(root) == nil, "\"\(root)\" is still there")
        }
        if let failure { throw failure }
    }
}
