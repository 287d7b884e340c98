import Platform

/// Lets calls to a store fail by plan, for tests of what stands above it. Deterministic: a fault strikes by the number
/// of the call, not by chance or time. Also counts the calls. Any thread.
package final class FaultStore: UnderStore {
    package enum Fault: Sendable {
        /// The call fails before the store is asked.
        case fail(StoreError)
        /// The call waits until the gate opens, then goes on.
        case hold(FaultGate)
        /// The closure runs before the store is asked, e.g. to replace the object.
        case perform(@Sendable () -> Void)
        /// A read hands over this many bytes of the store's, then fails.
        case truncate(after: UInt64, then: StoreError)
        /// The store does what is asked, but the caller hears of an error. For changes; other calls ignore it.
        case lose(StoreError)
        /// As `truncate`, but waiting at the gate after the bytes and then going on; for readers that use what has
        /// come. The answer to a lookup or a change, or a page of a listing, waits there when the store has given it.
        case pause(after: UInt64, FaultGate)
    }

    /// One fault and the calls that it strikes.
    package struct Rule: Sendable {
        package var operation: StoreCallLog.Operation
        /// nil: any path.
        package var path: ByteString?
        /// Which of the calls that fit `operation` and `path`, counted from 1.
        package var calls: ClosedRange<Int>
        package var fault: Fault

        package init(
            _ operation: StoreCallLog.Operation, on path: ByteString? = nil, calls: ClosedRange<Int> = 1...Int.max,
            _ fault: Fault
        ) {
            self.operation = operation
            self.path = path
            self.calls = calls
            self.fault = fault
        }
    }

    package let calls = StoreCallLog()
    let base: any UnderStore
    private let rules: Lock<[(rule: Rule, seen: Int)]>

    package init(_ base: any UnderStore, rules: [Rule] = []) {
        self.base = base
        self.rules = Lock(rules.map { ($0, 0) })
    }

    package var identity: StoreIdentity { base.identity }

    /// Adds a fault; its calls are counted from now on. Every fault that fits strikes, in the order of adding.
    package func add(_ rule: Rule) { rules.withLock { $0.append((rule, 0)) } }

    /// Takes every fault away.
    package func heal() { rules.withLock { $0.removeAll() } }

    package func lookup(_ path: ByteString) async throws(StoreError) -> ObjectAttributes? {
        let interruptions = try await strike(.lookup, path)
        let found = try await base.lookup(path)
        for interruption in interruptions { try await interruption.gate?.pass() }
        return found
    }

    package func list(_ path: ByteString) -> any DirectoryListing { Listing(base.list(path), of: path, in: self) }

    package func read(
        _ path: ByteString, range: Range<UInt64>, expecting version: ObjectVersion?, into sink: any ReadSink
    ) async throws(StoreError) {
        var start = range.lowerBound
        for fault in try await strike(.read, path, range: range) {
            let (length, gate, error) = fault
            let end = min(start + length, range.upperBound)
            if end > start { try await base.read(path, range: start..<end, expecting: version, into: sink) }
            start = end
            try await gate?.pass()
            if let error { throw error }
        }
        if start < range.upperBound || range.isEmpty {
            try await base.read(path, range: start..<range.upperBound, expecting: version, into: sink)
        }
    }

    package func readLink(_ path: ByteString) async throws(StoreError) -> ByteString {
        _ = try await strike(.readLink, path)
        return try await base.readLink(path)
    }

    package func openSource(
        _ path: ByteString, expecting version: ObjectVersion?
    ) async throws(StoreError) -> Descriptor? {
        _ = try await strike(.openSource, path)
        return try await base.openSource(path, expecting: version)
    }

    package func space() async throws(StoreError) -> StoreSpace? {
        _ = try await strike(.space, "")
        return try await base.space()
    }

    package func fileIdentity(of version: ObjectVersion) -> ByteString { base.fileIdentity(of: version) }

    package var counters: StoreCounters { base.counters }

    /// What happens to a read after its first bytes: wait at the gate, then fail.
    typealias Interruption = (after: UInt64, gate: FaultGate?, error: StoreError?)

    /// Counts the call, applies the faults that strike before it, and returns those that strike within a read.
    func strike(
        _ operation: StoreCallLog.Operation, _ path: ByteString, range: Range<UInt64>? = nil
    ) async throws(StoreError) -> [Interruption] {
        var lost: StoreError?
        return try await strike(operation, path, range: range, losing: &lost)
    }

    /// Counts a change, applies the faults that strike before it, makes it, and loses its answer if a fault says so.
    func change<Answer>(
        _ operation: StoreCallLog.Operation, _ path: ByteString, range: Range<UInt64>? = nil,
        _ body: (any ObjectWriting) async throws(StoreError) -> Answer
    ) async throws(StoreError) -> Answer {
        var lost: StoreError?
        let interruptions = try await strike(operation, path, range: range, losing: &lost)
        guard let writer = base.objectWriting else {
            throw StoreError(.unsupported, "the objects of \(identity) are not written as a whole")
        }
        let answer = try await body(writer)
        for interruption in interruptions { try await interruption.gate?.pass() }
        if let lost { throw lost }
        return answer
    }

    private func strike(
        _ operation: StoreCallLog.Operation, _ path: ByteString, range: Range<UInt64>?, losing lost: inout StoreError?
    ) async throws(StoreError) -> [Interruption] {
        calls.record(operation, path, range: range)
        let faults: [Fault] = rules.withLock { rules in
            var striking: [Fault] = []
            for index in rules.indices
            where rules[index].rule.operation == operation && [nil, path].contains(rules[index].rule.path) {
                rules[index].seen += 1
                if rules[index].rule.calls.contains(rules[index].seen) { striking.append(rules[index].rule.fault) }
            }
            return striking
        }
        var interruptions: [Interruption] = []
        for fault in faults {
            switch fault {
            case .fail(let error): throw error
            case .hold(let gate): try await gate.pass()
            case .perform(let change): change()
            case .lose(let error): lost = lost ?? error
            case .truncate(let length, let error): interruptions.append((length, nil, error))
            case .pause(let length, let gate): interruptions.append((length, gate, nil))
            }
        }
        return interruptions
    }

    private final class Listing: DirectoryListing {
        private let base: any DirectoryListing
        private let path: ByteString
        private let store: FaultStore

        init(_ base: any DirectoryListing, of path: ByteString, in store: FaultStore) {
            self.base = base
            self.path = path
            self.store = store
        }

        func nextPage() async throws(StoreError) -> ListingPage? {
            let interruptions = try await store.strike(.page, path)
            let page = try await base.nextPage()
            for interruption in interruptions { try await interruption.gate?.pass() }
            return page
        }
    }
}
