import Platform

/// A listing of one directory; while the caller works on a page, the next one is on its way.
///
/// Used by one task at a time, as the protocol demands, so its state needs no lock.
final class S3Listing: DirectoryListing, @unchecked Sendable {
    private typealias Answer = Result<ListBucketPage, StoreError>

    /// S3 may answer empty pages (after many deletions), but not without end.
    private static let mostEmptyPages = 1000

    private let store: S3Store
    private let path: ByteString
    private let prefix: ByteString
    private var merger: ListingMerger
    private var pending: Task<Answer, Never>?
    private var token: String?
    private var emptyPages = 0
    private var isFinished = false

    /// - Parameter prefix: of the keys, empty or ending with a slash.
    init(store: S3Store, path: ByteString, prefix: ByteString) {
        self.store = store
        self.path = path
        self.prefix = prefix
        merger = ListingMerger(prefix: prefix)
    }

    deinit { pending?.cancel() }

    func nextPage() async throws(StoreError) -> ListingPage? {
        guard !isFinished else { return nil }
        guard store.canExist(path) else { throw StoreError(.notFound, "there is no \(store.name(path))") }
        do { return try await advance() } catch {
            isFinished = true
            pending?.cancel()
            throw error
        }
    }

    private func advance() async throws(StoreError) -> ListingPage? {
        let answer = try await take()
        if answer.isTruncated {
            try follow(answer)
            pending = request(token)
        }
        var page = try merger.add(items(answer))
        if !answer.isTruncated {
            isFinished = true
            let rest = merger.finish()
            page.entries += rest.entries
            if !merger.hasKeys, !path.isEmpty { try await checkEmptyDirectory() }
        }
        return page
    }

    private func take() async throws(StoreError) -> ListBucketPage {
        let task = pending ?? request(nil)
        pending = nil
        return try await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }.get()
    }

    private func request(_ token: String?) -> Task<Answer, Never> {
        Task { [store, prefix] in
            do throws(StoreError) {
                return .success(try await store.page(prefix: prefix, token: token, limit: 1000))
            } catch {
                return .failure(error)
            }
        }
    }

    private func follow(_ answer: ListBucketPage) throws(StoreError) {
        guard let next = answer.nextToken, !next.isEmpty, next != token else {
            throw violation("a truncated page has no new continuation token")
        }
        token = next
        emptyPages = answer.objects.isEmpty && answer.commonPrefixes.isEmpty ? emptyPages + 1 : 0
        guard emptyPages < Self.mostEmptyPages else { throw violation("\(emptyPages) empty pages in a row") }
    }

    private func items(_ answer: ListBucketPage) -> [ListingMerger.Item] {
        let objects = answer.objects.map { object in
            ListingMerger.Item.object(
                key: object.key,
                ObjectAttributes(
                    kind: .file, size: object.size,
                    version: ObjectMetadata.version(
                        tag: object.entityTag, modified: object.modified, size: object.size),
                    modified: object.modified, isPartial: true))
        }
        // What a lookup found in the directory's marker is more than this.
        var directory = store.directory
        directory.isPartial = true
        return objects + answer.commonPrefixes.map { .directory(prefix: $0, directory) }
    }

    /// No key lies under the directory: it may be an object, or an s3fs directory, whose object has no slash.
    private func checkEmptyDirectory() async throws(StoreError) {
        guard let found = try await store.lookup(path) else {
            throw StoreError(.notFound, "there is no \(store.name(path))")
        }
        guard found.kind == .directory else {
            throw StoreError(.notDirectory, "\(store.name(path)) is an object, not a directory")
        }
    }

    private func violation(_ what: String) -> StoreError {
        StoreError(.protocolViolation, "listing \(store.name(path)): \(what); this store's listings cannot be used")
    }
}
