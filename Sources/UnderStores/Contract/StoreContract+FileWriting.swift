import Glibc
import Platform

extension StoreContract {
    /// The names of the checks of `runFileWriting`, in the order in which they run.
    package static var fileWritingCheckNames: [String] { fileWritingChecks.map(\.name) }

    /// Runs the checks of `FileWriting` in a new directory `.larder-probe-contract-…` of the store's root, which is gone
    /// again at the end. Never throws.
    ///
    /// - Parameters:
    ///   - caller: may write in the root.
    ///   - isStopped: asked between the checks: whether to end now, with what is there removed.
    /// - Returns: nothing for a store whose files are not changed in place.
    @discardableResult
    package func runFileWriting(
        as caller: Caller, isStopped: @Sendable () -> Bool = { false },
        report: @escaping @Sendable (ContractResult) -> Void = { _ in }
    ) async -> [ContractResult] {
        guard let local = store as? LocalStore else { return [] }
        var log = ContractLog(isOptional: false, report)
        let name = Self.probeDirectory()
        await log.recordFailure("the directory can be written") {
            _ = try await local.makeDirectory(name, mode: 0o700, as: caller)
        }
        guard log.results.isEmpty else { return log.results }
        let scene = Lock<LocalStore?>(nil)
        await log.recordFailure("a new directory can be opened") {
            let opened = try local.subdirectory(name)
            scene.withLock { $0 = opened }
        }
        if let inside = scene.withLock({ $0 }) {
            let context = FileWritingContext(store: inside, caller: caller)
            for check in Self.fileWritingChecks where !isStopped() {
                await log.record(check.name) { try await check.body(context) }
            }
        }
        await log.recordFailure("what was written can be removed") {
            try await Self.removeTree(name, of: local, caller)
        }
        return log.results
    }

    private static func removeTree(_ path: ByteString, of store: LocalStore, _ caller: Caller) async throws {
        let listing = store.list(path)
        while let page = try await listing.nextPage() {
            for entry in page.entries {
                let child = path.appending(component: entry.name)
                if entry.attributes.kind == .directory {
                    try await removeTree(child, of: store, caller)
                } else {
                    try await store.remove(child, as: caller)
                }
            }
        }
        try await store.removeDirectory(path, as: caller)
    }

    private struct FileWritingCheck: Sendable {
        let name: String
        let body: @Sendable (FileWritingContext) async throws -> String
        init(_ name: String, _ body: @escaping @Sendable (FileWritingContext) async throws -> String) {
            self.name = name
            self.body = body
        }
    }

    private static let fileWritingChecks: [FileWritingCheck] = [
        FileWritingCheck("what a call returns is what a lookup gives") { context in
            let (store, caller) = (context.store, context.caller)
            let directory = try await store.makeDirectory("contract-agree", mode: 0o750, as: caller)
            try await context.expectLookup("contract-agree", directory)
            let (_, file) = try await store.create("contract-agree/file", flags: O_RDWR, mode: 0o640, as: caller)
            try await context.expectLookup("contract-agree/file", file)
            try expect(file.version != nil && file.size == 0, "a new file has no version, or bytes")
            let link = try await store.makeLink("contract-agree/link", target: "file", as: caller)
            try await context.expectLookup("contract-agree/link", link)
            try expect(try await store.readLink("contract-agree/link") == "file", "the link has another target")
            let second = try await store.makeHardLink("contract-agree/second", to: "contract-agree/file", as: caller)
            try await context.expectLookup("contract-agree/second", second)
            try await context.expectLookup("contract-agree/file", second)
            try expect(second.links == 2, "a file with two names has \(second.links) links")
            let pipe = try await store.makeNode("contract-agree/pipe", mode: S_IFIFO | 0o600, device: 0, as: caller)
            try await context.expectLookup("contract-agree/pipe", pipe)
            var change = AttributeChange()
            change.permissions = 0o604
            change.size = 1000
            change.modified = .at(FileTime(seconds: 1_000_000_000, nanoseconds: 123_456_789))
            let changed = try await store.change("contract-agree/file", change, as: caller)
            try await context.expectLookup("contract-agree/file", changed)
            try expect(changed.permissions == 0o604 && changed.size == 1000, "the change did not happen")
            try expect(changed.modified == FileTime(seconds: 1_000_000_000, nanoseconds: 123_456_789), "wrong time")
            try expect(changed.version != second.version, "the change left the version as it was")
            return ""
        },
        FileWritingCheck("of many that create one name, one does") { context in
            let winners = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<32 {
                    group.addTask {
                        let made = try? await context.store.create(
                            "contract-once", flags: O_WRONLY, mode: 0o600, as: context.caller)
                        return made != nil
                    }
                }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            try expect(winners == 1, "\(winners) of 32 created it")
            return ""
        },
        FileWritingCheck("an open file is written in place and keeps its identity") { context in
            let (store, caller) = (context.store, context.caller)
            let (file, made) = try await store.create("contract-place", flags: O_RDWR, mode: 0o600, as: caller)
            try [UInt8]("hello".utf8).withUnsafeBytes { try file.write($0, at: 3) }
            let written = try context.require(await store.lookup("contract-place"))
            try expect(written.size == 8 && written.version != made.version, "the write is not seen")
            let (old, new) = (try context.require(made.version), try context.require(written.version))
            try expect(store.fileIdentity(of: old) == store.fileIdentity(of: new), "the identity changed")
            _ = try await store.open(
                "contract-place", flags: O_RDWR, identity: store.fileIdentity(of: old), as: caller)
            try await store.remove("contract-place", as: caller)
            try expect(try await store.attributes(of: file).links == 0, "the removed file still has a name")
            _ = try await store.create("contract-place", flags: O_RDWR, mode: 0o600, as: caller)
            let error = await context.errorNumber {
                _ = try await store.open(
                    "contract-place", flags: O_RDWR | O_TRUNC, identity: store.fileIdentity(of: new), as: caller)
            }
            try expect(error == ESTALE, "another file of the name was opened: \(error)")
            return ""
        },
        FileWritingCheck("what is renamed is found at its new place only") { context in
            let (store, caller) = (context.store, context.caller)
            _ = try await store.makeDirectory("contract-from", mode: 0o700, as: caller)
            _ = try await store.makeDirectory("contract-to", mode: 0o700, as: caller)
            let (_, file) = try await store.create("contract-from/a", flags: O_RDWR, mode: 0o600, as: caller)
            _ = try await store.create("contract-to/b", flags: O_RDWR, mode: 0o600, as: caller)
            let refused = await context.errorNumber {
                try await store.rename("contract-from/a", to: "contract-to/b", flags: 1, as: caller)
            }
            try expect(refused == EEXIST, "RENAME_NOREPLACE over a file gave \(refused)")
            try await store.rename("contract-from/a", to: "contract-to/b", flags: 0, as: caller)
            try expect(try await store.lookup("contract-from/a") == nil, "it is still at its old place")
            let moved = try context.require(await store.lookup("contract-to/b")?.version)
            let identity = store.fileIdentity(of: try context.require(file.version))
            try expect(store.fileIdentity(of: moved) == identity, "another file is at its new place")
            try await store.synchronizeDirectory("contract-to")
            return ""
        },
        FileWritingCheck("errors are those of the system call") { context in
            let (store, caller) = (context.store, context.caller)
            _ = try await store.makeDirectory("contract-errors", mode: 0o700, as: caller)
            _ = try await store.create("contract-errors/file", flags: O_RDWR, mode: 0o600, as: caller)
            let cases: [(String, CInt, @Sendable () async throws -> Void)] = [
                ("removing what is not there", ENOENT, { try await store.remove("contract-none", as: caller) }),
                ("unlinking a directory", EISDIR, { try await store.remove("contract-errors", as: caller) }),
                (
                    "removing a file as a directory", ENOTDIR,
                    { try await store.removeDirectory("contract-errors/file", as: caller) }
                ),
                (
                    "removing a full directory", ENOTEMPTY,
                    { try await store.removeDirectory("contract-errors", as: caller) }
                ),
                (
                    "a name below a file", ENOTDIR,
                    { _ = try await store.makeDirectory("contract-errors/file/x", mode: 0o700, as: caller) }
                ),
                (
                    "a name of 256 bytes", ENAMETOOLONG,
                    {
                        let name = ByteString([UInt8](repeating: UInt8(ascii: "n"), count: 256))
                        _ = try await store.makeDirectory(name, mode: 0o700, as: caller)
                    }
                ),
                (
                    "a directory into itself", EINVAL,
                    { try await store.rename("contract-errors", to: "contract-errors/in", flags: 0, as: caller) }
                ),
                ("the root made anew", EEXIST, { _ = try await store.makeDirectory("", mode: 0o700, as: caller) }),
            ]
            for (what, wanted, body) in cases {
                let error = await context.errorNumber(body)
                try expect(error == wanted, "\(what) gave errno \(error), not \(wanted)")
            }
            return "\(cases.count) errors"
        },
    ]
}

private struct FileWritingContext: Sendable {
    let store: LocalStore
    let caller: Caller

    func expectLookup(_ path: ByteString, _ returned: ObjectAttributes) async throws {
        let found = try await store.lookup(path)
        try expect(found == returned, "\"\(path)\": \(returned) was returned, \(String(describing: found)) is found")
    }

    func require<Value>(_ value: Value?) throws -> Value {
        guard let value else { throw ContractFailure(description: "what was made is not found") }
        return value
    }

    /// The errno of the failure that `body` throws; 0 when it throws none.
    func errorNumber(_ body: () async throws -> Void) async -> CInt {
        do {
            try await body()
            return 0
        } catch { return (error as? FileFailure)?.errorNumber ?? -1 }
    }
}
