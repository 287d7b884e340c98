import Platform
import TestSupport
import Testing
import UnderStores

@Suite struct DirectoryMarkerTests {
    @Test func aDirectoryHasTheMetadataOfItsMarkerForOneMoreRequest() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        let metadata = [
            // 0o40750, as s3fs does
            (name: "x-amz-meta-mode", value: "16872"), (name: "x-amz-meta-uid", value: "1000"),
            (name: "x-amz-meta-gid", value: "1001"), (name: "x-amz-meta-mtime", value: "1700000000.5"),
        ]
        try await bucket.put("marked/", [], headers: metadata)
        try await bucket.put(["marked/file", "plain/file", "bare/"], "x")
        let counting = try FaultyServer(before: server.endpoint) { _ in .none }
        let store = try server.store(bucket.bucket) { $0.endpoint = counting.endpoint }
        let marked = try #require(try await store.lookup("marked"))
        #expect(marked.kind == .directory && marked.version == nil && !marked.isPartial)
        #expect(marked.permissions == 0o750 && marked.uid == 1000 && marked.gid == 1001)
        #expect(marked.modified == FileTime(seconds: 1_700_000_000, nanoseconds: 500_000_000))
        #expect(counting.requests.count == 3)
        let plain = try #require(try await store.lookup("plain"))
        #expect(plain.kind == .directory && plain.permissions == nil && plain.uid == nil)
        #expect(counting.requests.count == 5, "a directory without a marker costs what it did")
        let bare = try #require(try await store.lookup("bare"))
        #expect(bare.kind == .directory && bare.permissions == nil)
    }

    @Test func aListingDoesNotClaimToKnowTheMetadataOfDirectories() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        try await bucket.put(["d/file", "f"], "x")
        let listed = try await entries(try server.store(bucket.bucket).list("")).entries
        #expect(listed.map(\.name) == ["d", "f"])
        #expect(listed.filter(\.attributes.isPartial).count == 2)
    }
}
