import Platform

extension StoreContract {
    /// The names of the checks of `runObjectWriting`, in the order in which they run.
    package static var objectWritingChecks: [String] { allObjectWriting.map(\.name) }

    private static let allObjectWriting = objectChecks + uploadChecks + copyChecks + treeChecks

    /// Runs the checks of `ObjectWriting`, one after the other, on objects below a new directory
    /// `.larder-contract-…` in `directory`, which is empty again at the end. Never throws.
    ///
    /// What the store says it does not have (`.unsupported`) does not apply.
    /// - Returns: nothing for a store whose objects are not replaced as a whole.
    @discardableResult
    package func runObjectWriting(
        in directory: ByteString = "", report: @Sendable (ContractResult) -> Void = { _ in }
    ) async -> [ContractResult] {
        guard let writer = store.objectWriting else { return [] }
        let name = ByteString(".larder-contract-" + String(UInt64.random(in: 0 ... .max), radix: 36))
        let context = WritingContext(store: store, writer: writer, root: directory.appending(component: name))
        var results: [ContractResult] = []
        func record(_ name: String, _ start: UInt64, _ outcome: ContractResult.Outcome, _ note: String = "") {
            let nanoseconds = Int64(MonotonicClock.now() - start)
            results.append(
                ContractResult(name: name, outcome: outcome, note: note, duration: .nanoseconds(nanoseconds)))
            if let last = results.last { report(last) }
        }
        for check in Self.allObjectWriting {
            let start = MonotonicClock.now()
            do {
                let note = try await check.body(context)
                record(check.name, start, .passed, note)
            } catch let reason as ContractNotApplicable {
                record(check.name, start, .notApplicable(reason.reason))
            } catch let error as StoreError where error.kind == .unsupported {
                record(check.name, start, .notApplicable(error.message))
            } catch {
                record(check.name, start, .failed("\(error)"))
            }
        }
        let start = MonotonicClock.now()
        do { try await context.cleanUp() } catch {
            record("what was written can be removed", start, .failed("\(error)"))
        }
        return results
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

    func cleanUp() async throws {
        for upload in try await writer.uploads(under: root) {
            try await writer.abortUpload(upload.upload, of: upload.path)
        }
        try await removeAll(under: "")
        try await writer.removeDirectory(root)
    }
}
