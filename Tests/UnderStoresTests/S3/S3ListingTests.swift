import Platform
import TestSupport
import Testing

@testable import UnderStores

@Suite struct S3Listings {
    /// A page of a listing of the root.
    private static func page(_ keys: [String] = [], prefixes: [String] = [], next: String? = nil) -> Fault {
        let contents = keys.map { "<Contents><Key>\($0)</Key><Size>1</Size><ETag>e</ETag></Contents>" }
        let common = prefixes.map { "<CommonPrefixes><Prefix>\($0)</Prefix></CommonPrefixes>" }
        let token = next.map { "<NextContinuationToken>\($0)</NextContinuationToken>" } ?? ""
        let text =
            "<ListBucketResult><IsTruncated>\(next != nil)</IsTruncated>\(token)"
            + (contents + common).joined() + "</ListBucketResult>"
        return .answer(200, body: Array(text.utf8))
    }

    @Test(arguments: [
        [page(prefixes: ["a/"], next: "1"), page(prefixes: ["a/"], next: "2")],
        [page(["b"], next: "1"), page(["a"], next: "2")], [page(["a"], next: "1"), page(["b"], next: "1")],
        [page(["a"], next: "")], [page(["a", "a"])],
    ])
    func aListingWithoutProgressIsAnError(_ answers: [Fault]) async throws {
        let server = try FaultyServer { answers[min($0.index, answers.count - 1)] }
        let error = try await caughtStoreError { try await entries(impatientStore(server).list("")) }
        #expect(error.kind == .protocolViolation && server.requests.count <= answers.count + 1)
    }

    @Test func emptyPagesEndSomeTime() async throws {
        let server = try FaultyServer { Self.page(next: "\($0.index)") }
        let error = try await caughtStoreError { try await entries(impatientStore(server).list("")) }
        #expect(error.kind == .protocolViolation)
    }

    @Test func someEmptyPagesAreFine() async throws {
        let server = try FaultyServer { $0.index < 20 ? Self.page(next: "\($0.index)") : Self.page(["z"]) }
        #expect(try await entries(impatientStore(server).list("")).entries.map(\.name) == ["z"])
    }

    @Test func theNextPageIsAskedForAhead() async throws {
        let server = try FaultyServer { Self.page(["k\($0.index)"], next: $0.index < 5 ? "\($0.index)" : nil) }
        let listing = try impatientStore(server).list("")
        #expect(server.requests.isEmpty, "nothing is requested before the first page is asked for")
        _ = try await listing.nextPage()
        while server.requests.count < 2 { await Task.yield() }
        #expect(try await entries(listing).entries.map(\.name) == ["k0", "k1", "k2", "k3", "k4", "k5"])
        #expect(server.requests.count == 6 && server.requests[1].target.contains("continuation-token=0"))
        #expect(try await listing.nextPage() == nil)
    }

    @Test func anErrorInTheMiddleEndsTheListing() async throws {
        let server = try FaultyServer { $0.index == 0 ? Self.page(["a"], next: "1") : .error(403, "AccessDenied") }
        let listing = try impatientStore(server).list("")
        _ = try await listing.nextPage()
        #expect(try await caughtStoreError { try await listing.nextPage() }.kind == .accessDenied)
        #expect(try await listing.nextPage() == nil)
    }

    @Test(arguments: ["<ListBucketResult><Contents><Key>a", "", "<html></html>", "<!DOCTYPE x []><ListBucketResult/>"])
    func brokenXMLIsAnErrorOfTheStore(_ text: String) async throws {
        let server = try FaultyServer { _ in .answer(200, body: Array(text.utf8)) }
        let store = try impatientStore(server)
        #expect(try await caughtStoreError { try await entries(store.list("")) }.kind == .protocolViolation)
        #expect(server.requests.count == 3, "it is asked again, but few times")
    }

    @Test func cancellingAListingEndsIt() async throws {
        let server = try FaultyServer { _ in .silence }
        let store = try impatientStore(server)
        let task = Task { try await caughtStoreError { try await entries(store.list("")) } }
        while server.requests.isEmpty { await Task.yield() }
        task.cancel()
        #expect(try await task.value.kind == .cancelled)
    }

    @Test(arguments: [
        ByteString("a//b"), ".", "..", "a/../b", "/a", "a/", "a\0b", ByteString([0xff, 0xfe]),
        ByteString(String(repeating: "x", count: 256)),
    ])
    func whatCannotBeAKeyIsNotAskedFor(_ path: ByteString) async throws {
        let server = try FaultyServer { _ in .answer(500) }
        let store = try impatientStore(server)
        #expect(try await store.lookup(path) == nil)
        #expect(try await caughtStoreError { try await entries(store.list(path)) }.kind == .notFound)
        #expect(try await caughtStoreError { try await store.bytes(path, 0..<1) }.kind == .notFound)
        #expect(server.requests.isEmpty)
    }
}
