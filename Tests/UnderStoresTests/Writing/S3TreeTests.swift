import Platform
import TestSupport
import Testing

@testable import UnderStores

@Suite struct S3Trees {
    // MARK: Removals

    @Test func manyAreRemovedTogetherAndWhatXMLCannotHoldAlone() async throws {
        let server = try FaultyServer { request in
            guard request.method == "POST" else { return .answer(204) }
            let text =
                "<DeleteResult><Error><Key>p/no</Key><Code>AccessDenied</Code><Message>m</Message></Error></DeleteResult>"
            return .answer(200, body: Array(text.utf8))
        }
        let store = try await impatientStore(server, adjusting: { $0.prefix = "p/" }).assume()
        let failures = try await store.removeAll(["a&b", "c\u{1}d", "<e>\"'", "no", "line\nfeed", "m/"])
        #expect(failures.map(\.path) == ["no"] && failures.first?.error.kind == .accessDenied)
        let batch = try #require(server.requests.first { $0.method == "POST" })
        let body = String(decoding: batch.body, as: UTF8.self)
        for key in ["p/a&amp;b", "p/&lt;e&gt;\"'", "p/no", "p/line&#10;feed", "p/m/"] {
            #expect(body.contains("<Object><Key>\(key)</Key></Object>"), "\(key)")
        }
        #expect(body.contains("<Quiet>true</Quiet>"))
        #expect(batch.headers["content-md5"] != nil && batch.headers["x-amz-checksum-crc32c"] != nil)
        #expect(server.requests.filter { $0.method == "DELETE" }.map(\.target) == ["/lake/p/c%01d"])
    }

    @Test func aStoreWithoutBatchesRemovesOneByOne() async throws {
        let server = try FaultyServer { $0.method == "POST" ? .error(501, "NotImplemented") : .answer(204) }
        let names = (0..<40).map { ByteString("n\($0)") }
        let failures = try await impatientStore(server).assume().removeAll(names)
        #expect(failures.isEmpty && server.count("DELETE") == 40)
    }

    @Test func noMoreThanAThousandAreRemovedAtOnce() async throws {
        let server = try FaultyServer { _ in .answer(200, body: Array("<DeleteResult/>".utf8)) }
        let failures = try await impatientStore(server).assume().removeAll((0..<2001).map { ByteString("n\($0)") })
        #expect(failures.isEmpty)
        let sizes = server.requests.map {
            String(decoding: $0.body, as: UTF8.self).split(separator: "<Object>").count - 1
        }
        #expect(sizes == [1000, 1000, 1])
    }

    // MARK: Listings

    private func page(_ keys: [String], next: String?) -> Fault {
        let contents = keys.map {
            "<Contents><Key>\($0)</Key><Size>1</Size><ETag>e</ETag><LastModified>2013-05-24T00:00:00Z</LastModified></Contents>"
        }.joined()
        let tail =
            next.map { "<IsTruncated>true</IsTruncated><NextContinuationToken>\($0)</NextContinuationToken>" } ?? ""
        return .answer(200, body: Array("<ListBucketResult>\(contents)\(tail)</ListBucketResult>".utf8))
    }

    private func keys(_ listing: any KeyListing) async throws -> [ByteString] {
        var keys: [ByteString] = []
        while let page = try await listing.nextPage() { keys += page.map(\.key) }
        return keys
    }

    @Test func keysComeOverAllPagesWithMarkersAndNamesThatNoFileCanHave() async throws {
        let server = try FaultyServer { request in
            request.target.contains("continuation-token=t1")
                ? page(["p/d/a//b", "p/d/z"], next: nil) : page(["p/d/", "p/d/."], next: "t1")
        }
        let store = try impatientStore(server, adjusting: { $0.prefix = "p/" })
        #expect(try await keys(store.keys(under: "d")) == ["d/", "d/.", "d/a//b", "d/z"])
        #expect(
            server.requests.allSatisfy { !$0.target.contains("delimiter") && $0.target.contains("prefix=p%2Fd%2F") })
    }

    @Test(arguments: ["same token", "same page", "empty pages", "other prefix"])
    func aListingOfKeysThatMakesNoProgressEnds(_ fault: String) async throws {
        let server = try FaultyServer { request in
            switch fault {
            case "same token": page(["d/\(request.index)"], next: "t")
            case "same page": page(["d/a"], next: "t\(request.index)")
            case "empty pages": page([], next: "t\(request.index)")
            default: page(["e/a"], next: nil)
            }
        }
        let error = try await caughtStoreError { try await keys(impatientStore(server).keys(under: "d")) }
        #expect(error.kind == .protocolViolation)
    }

    private func uploads(_ entries: [(String, String, String)], next: String?) -> Fault {
        let list = entries.map {
            "<Upload><Key>\($0.0)</Key><UploadId>\($0.1)</UploadId><Initiated>\($0.2)</Initiated></Upload>"
        }.joined()
        let tail = next.map {
            "<IsTruncated>true</IsTruncated><NextKeyMarker>\($0)</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"
        }
        return .answer(
            200,
            body: Array(
                "<ListMultipartUploadsResult><EncodingType>url</EncodingType>\(tail ?? "")\(list)</ListMultipartUploadsResult>"
                    .utf8))
    }

    @Test func uploadsComeOverAllPagesOldestFirst() async throws {
        let server = try FaultyServer { request in
            request.target.contains("key-marker=p%2Fd%2Fa")
                ? uploads([("p/d/b", "2", "2020-01-01T00:00:00Z"), ("p/dx", "3", "2000-01-01T00:00:00Z")], next: nil)
                : uploads([("p/d/a+%26", "1", "2021-01-01T00:00:00Z")], next: "p/d/a")
        }
        let store = try impatientStore(server, adjusting: { $0.prefix = "p/" })
        let found = try await store.uploads(under: "d")
        #expect(found.map(\.path) == ["d/b", "d/a &"] && found.map(\.upload.text) == ["2", "1"])
    }

    @Test(arguments: [true, false])
    func aListingOfUploadsThatMakesNoProgressEnds(_ isEmpty: Bool) async throws {
        let server = try FaultyServer { request in
            uploads(isEmpty ? [] : [("a", "1", "2021-01-01T00:00:00Z")], next: isEmpty ? "k\(request.index)" : "k")
        }
        let error = try await caughtStoreError { try await impatientStore(server).uploads(under: "") }
        #expect(error.kind == .protocolViolation)
    }

    // MARK: Copies and directories

    @Test func aSourceBeyondOnePutIsCopiedInParts() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        let store = try server.store(bucket.bucket) {
            $0.limits.largestPut = 6 << 20
            $0.limits.largestPart = 5 << 20
        }
        var random = SeededGenerator(seed: 3)
        let bytes = random.bytes(11 << 20 | 3)
        try await bucket.put(
            "large", bytes,
            headers: [("x-amz-meta-mode", "33188"), ("Content-Type", "text/csv"), ("Cache-Control", "no-cache")])
        let source = try #require(try await store.lookup("large"))
        let made = try await store.copy("large", expecting: source.version, to: "copy", metadata: nil, if: .absent)
        #expect(made.size == UInt64(bytes.count) && made.permissions == 0o644)
        #expect(made.version?.description.hasSuffix("-3\"") == true, "\(made)")
        #expect(try await store.bytes("copy", 0..<made.size) == bytes)
        let kept = try #require(try await store.metadata(of: "copy")).metadata
        #expect(kept.contentType == "text/csv" && kept.preserved == ["cache-control": "no-cache"])
        #expect(try await store.uploads(under: "").isEmpty)
    }

    @Test func aCopyInPartsThatFailsLeavesNoUpload() async throws {
        let aborted = Lock(false)
        let server = try FaultyServer { request in
            switch (request.method, request.target.contains("partNumber=2")) {
            case ("HEAD", _): .answer(200, headers: [("ETag", "\"t\""), ("Content-Length", "\(11 << 20)")])
            case ("POST", _):
                .answer(200, body: Array("<I><UploadId>u</UploadId></I>".utf8))
            case ("PUT", true): .error(412, "PreconditionFailed")
            case ("PUT", false): .answer(200, body: Array("<CopyPartResult><ETag>\"p\"</ETag></CopyPartResult>".utf8))
            default:
                aborted.withLock {
                    $0 = request.method == "DELETE" && request.target.hasSuffix("uploadId=u")
                    return .answer(204)
                }
            }
        }
        let store = try await impatientStore(
            server,
            adjusting: {
                $0.limits.largestPut = 6 << 20
                $0.limits.largestPart = 5 << 20
            }
        ).assume()
        let error = try await caughtStoreError {
            try await store.copy("a", expecting: nil, to: "b", metadata: nil, if: .none)
        }
        #expect(error.kind == .versionChanged && aborted.withLock { $0 })
    }

    @Test func aStoreThatTakesACopyForAnEmptyPutIsNotTrustedWithOne() async throws {
        let bucket = ScriptedWrites()
        let server = try FaultyServer { bucket.answer($0) }
        let store = try impatientStore(server)
        _ = try await store.put("o", uploadBody([1, 2, 3]), .init(), if: .none)
        _ = try await store.put("there", uploadBody([4]), .init(), if: .none)
        for path in ["there", "new"] as [ByteString] {
            let error = try await caughtStoreError {
                try await store.copy("o", expecting: nil, to: path, metadata: nil, if: .none)
            }
            #expect(error.kind == .unsupported)
        }
        #expect(bucket.objects.withLock { $0.mapValues(\.bytes) } == ["/lake/o": [1, 2, 3], "/lake/there": [4]])
    }

    @Test func aStoreThatKeepsNoMarkersHasNoEmptyDirectories() async throws {
        let server = try FaultyServer { request in
            request.isListing
                ? .answer(200, body: Array("<ListBucketResult/>".utf8))
                : .answer(200, headers: [("ETag", "\"t\""), ("Content-Length", "0")])
        }
        let store = try impatientStore(server)
        for _ in 0..<2 {
            let error = try await caughtStoreError { try await store.makeDirectory("d", .init()) }
            #expect(error.kind == .unsupported)
        }
        #expect(server.count("PUT") == 1 && server.count("DELETE") == 1, "it is tried once and cleaned up")
    }
}
