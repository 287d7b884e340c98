import Platform

/// The contract of `UnderStore`, written down as checks that run against any store.
///
/// With a fixture, a writer to the same store, every check of `run` runs on objects made for it. Without one, as in
/// `larder store test URL`, nothing is written: what the store holds is sampled, and checks that need changes do not
/// apply. `runObjectWriting` and `runFileWriting` are about changes through the store itself.
package struct StoreContract: Sendable {
    /// The names of all checks, in the order in which they run.
    package static var checks: [String] { all.map(\.name) }

    private static let all = namespaceChecks + readingChecks + fileChecks + changeChecks + flatKeyChecks

    let store: any UnderStore
    private let fixture: (any ContractFixture)?

    /// - Parameters:
    ///   - store: its root should have nothing in it but what the fixture puts there.
    ///   - fixture: writes to the same root; nil only reads.
    package init(_ store: any UnderStore, fixture: (any ContractFixture)? = nil) {
        self.store = store
        self.fixture = fixture
    }

    /// Runs every check, one after the other. Never throws: a store that cannot be reached fails its checks.
    ///
    /// - Parameters:
    ///   - isStopped: asked between the checks: whether to end now.
    ///   - report: called after each check, to show progress.
    @discardableResult
    package func run(
        isStopped: @Sendable () -> Bool = { false }, report: @escaping @Sendable (ContractResult) -> Void = { _ in }
    ) async -> [ContractResult] {
        var log = ContractLog(isOptional: false, report)
        let context = ContractContext(store: store, fixture: fixture)
        await log.recordFailure("the store can be sampled") { try await context.prepare() }
        guard log.results.isEmpty else { return log.results }
        for check in Self.all where !isStopped() { await log.record(check.name) { try await check.body(context) } }
        return log.results
    }
}

package struct ContractResult: Sendable {
    package enum Outcome: Hashable, Sendable {
        case passed
        case failed(String)
        case notApplicable(String)
    }

    /// A sentence that says what holds when the check passes.
    package let name: String
    package let outcome: Outcome
    /// What was learned besides; often empty.
    package let note: String
    package let duration: Duration
}

/// Changes the objects of a store behind the `UnderStore` protocol, which cannot.
package protocol ContractFixture: Sendable {
    /// Whether keys need not be POSIX paths: `a//b`, `a/..`, `a` beside `a/b`, `a/`.
    var hasFlatKeys: Bool { get }
    /// How many objects the check of long listings makes; more than the store's longest page.
    var manyObjects: Int { get }

    /// Creates or replaces the object at `path` and the directories above it.
    /// Throws `ContractNotApplicable` when the store cannot have such a key.
    func put(_ path: ByteString, _ bytes: [UInt8]) async throws

    /// Creates many objects of the same bytes, perhaps some at a time.
    func put(_ paths: [ByteString], _ bytes: [UInt8]) async throws

    func remove(_ path: ByteString) async throws

    /// Makes a symbolic link; throws `ContractNotApplicable` where there are none.
    func link(_ path: ByteString, to target: ByteString) async throws
}

extension ContractFixture {
    package var manyObjects: Int { 2100 }
    package func put(_ paths: [ByteString], _ bytes: [UInt8]) async throws {
        for path in paths { try await put(path, bytes) }
    }
    package func link(_ path: ByteString, to target: ByteString) async throws {
        throw ContractNotApplicable("the store has no symbolic links")
    }
}

/// Thrown by a check or fixture that has nothing to do on a store.
package struct ContractNotApplicable: Error, Sendable {
    package let reason: String
    package init(_ reason: String) { self.reason = reason }
}

/// Thrown by a check that found the contract broken.
struct ContractFailure: Error, CustomStringConvertible {
    let description: String
}

struct ContractCheck: Sendable {
    let name: String
    /// Returns a note.
    let body: @Sendable (ContractContext) async throws -> String

    init(_ name: String, _ body: @escaping @Sendable (ContractContext) async throws -> String) {
        self.name = name
        self.body = body
    }
}

func expect(_ condition: Bool, _ failure: @autoclosure () -> String) throws {
    if !condition { throw ContractFailure(description: failure()) }
}
