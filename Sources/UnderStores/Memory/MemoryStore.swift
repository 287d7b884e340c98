import Platform

/// A flat store in memory, for tests and reference models: keys and bytes as S3 has them, with directories inferred
/// from the keys. Deterministic: versions and times count the changes made.
///
/// A key that ends in a slash is a directory marker. Any thread.
package final class MemoryStore: UnderStore {
    package let identity: StoreIdentity
    package let calls = StoreCallLog()
    let pageSize: Int
    private let pieceSize: Int
    private let space: StoreSpace?
    let state = Lock(MemoryObjects())
    let writes: Lock<MemoryWrites>

    /// - Parameters:
    ///   - name: tells stores of one process apart.
    ///   - pageSize: names in a page of a listing (1…).
    ///   - pieceSize: bytes handed to a sink at once (1…).
    ///   - enforcing: the conditions that it checks in the same step as the change; of the others it makes sure before
    ///       and after.
    package init(
        named name: String = "memory", pageSize: Int = 1000, pieceSize: Int = 64 << 10, space: StoreSpace? = nil,
        limits: ObjectLimits = ObjectLimits(),
        enforcing conditions: EnforcedConditions = EnforcedConditions(
            putAbsent: true, putVersion: true, completeAbsent: true, completeVersion: true, isKnown: true)
    ) {
        identity = StoreIdentity("memory://\(name)")
        self.pageSize = max(1, pageSize)
        self.pieceSize = max(1, pieceSize)
        self.space = space
        writes = Lock(MemoryWrites(limits: limits, conditions: conditions))
    }

    /// Creates or replaces the object `key` with a new version, and returns the version.
    @discardableResult
    package func put(_ key: ByteString, _ bytes: some Sequence<UInt8>) -> ObjectVersion {
        let content = Array(bytes)
        return state.withLock { $0.put(key, content) }
    }

    /// Removes the object `key`; false when there was none.
    @discardableResult
    package func remove(_ key: ByteString) -> Bool { state.withLock { $0.remove(key) } }

    /// Every key, sorted bytewise.
    package var keys: [ByteString] { state.withLock { $0.sortedKeys() } }

    /// The bytes of the object `key`, without counting a call.
    package func bytes(of key: ByteString) -> [UInt8]? { state.withLock { $0.objects[key]?.bytes } }

    package func lookup(_ path: ByteString) async throws(StoreError) -> ObjectAttributes? {
        calls.record(.lookup, path)
        if Task.isCancelled { throw .cancelled }
        return state.withLock { $0.attributes(of: path) }
    }

    package func list(_ path: ByteString) -> any DirectoryListing { Listing(of: path, in: self) }

    package func read(
        _ path: ByteString, range: Range<UInt64>, expecting version: ObjectVersion?, into sink: any ReadSink
    ) async throws(StoreError) {
        calls.record(.read, path, range: range)
        guard let object = state.withLock({ $0.objects[path] }) else {
            throw StoreError(.notFound, "\(identity)/\(path) does not exist")
        }
        guard version == nil || version == object.version else {
            throw StoreError(.versionChanged, "\(identity)/\(path) was changed since it was looked up")
        }
        guard range.upperBound <= UInt64(object.bytes.count) else {
            throw StoreError(
                .invalid, "\(identity)/\(path) has \(object.bytes.count) bytes, not \(range.upperBound)")
        }
        var offset = Int(range.lowerBound)
        while offset < Int(range.upperBound) {
            if Task.isCancelled { throw .cancelled }
            let end = min(offset + pieceSize, Int(range.upperBound))
            do {
                try object.bytes.withUnsafeBytes {
                    try sink.receive(UnsafeRawBufferPointer(rebasing: $0[offset..<end]), at: UInt64(offset))
                }
            } catch {
                throw StoreError(.sink, "the reader of \(identity)/\(path) failed: \(error)")
            }
            offset = end
        }
    }

    package func readLink(_ path: ByteString) async throws(StoreError) -> ByteString {
        calls.record(.readLink, path)
        let (kind, object) = state.withLock { ($0.attributes(of: path)?.kind, $0.objects[path]) }
        guard let kind else { throw StoreError(.notFound, "\(identity)/\(path) does not exist") }
        guard kind == .symbolicLink, let object else {
            throw StoreError(.invalid, "\(identity)/\(path) is no symbolic link")
        }
        return ByteString(object.bytes)
    }

    package func space() async throws(StoreError) -> StoreSpace? {
        calls.record(.space, "")
        return space
    }

    /// Calls as an S3 store would count its requests.
    package var counters: StoreCounters {
        var counters = StoreCounters()
        counters.headRequests = UInt64(calls.count(.lookup))
        counters.getRequests = UInt64(calls.count(.read))
        counters.listRequests = UInt64(calls.count(.page))
        return counters
    }

    /// Continues after the last key it has shown, as an S3 listing does, so it may run while keys come and go.
    private final class Listing: DirectoryListing {
        private let path: ByteString
        private let store: MemoryStore
        private let position = Lock<MemoryObjects.Position?>(.start)

        init(of path: ByteString, in store: MemoryStore) {
            self.path = path
            self.store = store
        }

        func nextPage() async throws(StoreError) -> ListingPage? {
            guard let start = position.withLock({ $0 }) else { return nil }
            store.calls.record(.page, path)
            if Task.isCancelled { throw .cancelled }
            let result = store.state.withLock { $0.page(of: path, from: start, limit: store.pageSize) }
            switch result {
            case .absent: throw StoreError(.notFound, "\(store.identity)/\(path) does not exist")
            case .object: throw StoreError(.notDirectory, "\(store.identity)/\(path) is not a directory")
            case .page(let page, let next):
                position.withLock { $0 = next }
                return page
            }
        }
    }
}
