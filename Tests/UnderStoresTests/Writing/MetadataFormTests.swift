import Glibc
import Platform
import TestSupport
import Testing

@testable import UnderStores

@Suite struct MetadataForms {
    private func headers(_ metadata: WrittenMetadata) throws -> HTTPHeaders {
        HTTPHeaders(try MetadataHeaders.headers(of: metadata, contentType: "a/b", name: "o"))
    }

    @Test(arguments: [S_IFREG | 0o644, S_IFDIR | 0o1777, S_IFLNK | 0o777, S_IFREG | 0o7777, S_IFDIR | 0o2750])
    func everyModeIsReadBack(_ mode: UInt32) throws {
        var metadata = WrittenMetadata()
        metadata.mode = mode
        let text = try headers(metadata)["x-amz-meta-mode"]
        #expect(text == "0" + String(mode, radix: 8))
        #expect(MetadataHeaders.metadata(of: try headers(metadata)).mode == mode)
    }

    @Test(arguments: [
        (0, 0, "0"), (5, 1, "5.000000001"), (1_700_000_000, 120_000_000, "1700000000.120000000"), (-7, 5, "-7"),
    ])
    func everyTimeIsReadBack(_ seconds: Int64, _ nanoseconds: UInt32, _ text: String) throws {
        var metadata = WrittenMetadata()
        metadata.modified = FileTime(seconds: seconds, nanoseconds: nanoseconds)
        #expect(try headers(metadata)["x-amz-meta-mtime"] == text)
        let read = MetadataHeaders.metadata(of: try headers(metadata)).modified
        #expect(read?.seconds == seconds && read?.nanoseconds == (seconds < 0 ? 0 : nanoseconds))
    }

    @Test func xattrsHaveTheFormOfS3fs() throws {
        // What s3fs 1.90 writes for `setfattr -n user.bin -v 0xfbfffe2b` and `setfattr -n user.color -v blue`.
        let theirs = "%7B%22user.bin%22%3A%22%2B//%2BKw%3D%3D%22%2C%22user.color%22%3A%22Ymx1ZQ%3D%3D%22%7D"
        let attributes: [ByteString: ByteString] = ["color": "blue", "bin": ByteString([0xfb, 0xff, 0xfe, 0x2b])]
        #expect(AttributeText.decode(theirs) == attributes)
        let ours = try AttributeText.encode(attributes, name: "o")
        #expect(ours.replacing("%2F", with: "/") == theirs)
        #expect(AttributeText.decode("%7B%22security.x%22%3A%22Ymx1ZQ%3D%3D%22%7D").isEmpty)
        for broken in ["", "%", "{", "[]", "%7B%22user.a%22%3A1%7D", "{\"user.a\":\"***\"}"] {
            #expect(AttributeText.decode(broken).isEmpty)
        }
    }

    @Test func xattrsOfAnyNameAndValueAreReadBack() throws {
        var random = SeededGenerator(seed: 1)
        for _ in 0..<200 {
            var attributes: [ByteString: ByteString] = [:]
            for _ in 0..<3 {
                let name = String(decoding: random.bytes(5).map { $0 & 0x7f }, as: UTF8.self) + "ü\"\\"
                attributes[ByteString(name)] = ByteString(random.bytes(20))
            }
            #expect(AttributeText.decode(try AttributeText.encode(attributes, name: "o")) == attributes)
        }
    }

    @Test func ourFieldsAreNeverTakenFromWhatIsPreserved() throws {
        var metadata = WrittenMetadata()
        metadata.uid = 5
        metadata.preserved = [
            "x-amz-meta-uid": "6", "x-amz-meta-mode": "7", "x-amz-meta-x": "y", "expires": "never", "etag": "no",
            "x-amz-storage-class": "GLACIER",
        ]
        let headers = try headers(metadata)
        #expect(
            headers.fields.map(\.name).filter { $0 == "x-amz-meta-uid" }.count == 1 && headers["x-amz-meta-uid"] == "5")
        #expect(headers["x-amz-meta-mode"] == nil && headers["x-amz-meta-x"] == "y" && headers["expires"] == "never")
        #expect(headers["etag"] == nil && headers["x-amz-storage-class"] == nil)
    }

    @Test func aValueThatWouldBreakTheRequestIsRefused() {
        var metadata = WrittenMetadata()
        metadata.preserved = ["x-amz-meta-x": "a\r\nx-amz-acl: public-read"]
        #expect(throws: StoreError.self) { try headers(metadata) }
    }

    @Test(arguments: [
        ("a/b.parquet", "application/vnd.apache.parquet"), ("x.JSON", "application/json"),
        ("x.tar.gz", "application/gzip"),
        ("noext", "application/octet-stream"), (".png", "application/octet-stream"),
        ("a.b/c", "application/octet-stream"),
        ("x.unknownsuffix", "application/octet-stream"), ("x.", "application/octet-stream"), ("p.png", "image/png"),
    ])
    func aNameTellsTheType(_ name: String, _ type: String) { #expect(ContentType.of(ByteString(name)) == type) }

    @Test func rcloneReadsWhatWeWrite() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        let store = try server.store(bucket.bucket)
        var metadata = WrittenMetadata()
        metadata.mode = S_IFREG | 0o4751
        metadata.modified = FileTime(seconds: 1_500_000_000, nanoseconds: 123_456_789)
        _ = try await store.put("file", uploadBody([1, 2, 3]), metadata, if: .none)
        let directory = try TemporaryDirectory()
        let remote =
            ":s3,provider=Other,access_key_id=moto,secret_access_key=moto,endpoint='\(server.endpoint)':\(bucket.bucket)"
        try await TestProcess.run(
            TestTools.path("rclone"), ["copy", "-M", remote, directory.path],
            environment: ["HOME": directory.path, "RCLONE_CONFIG": "/dev/null"])
        let status = try FileStatus(of: directory.file("file"), flags: CInt(AT_SYMLINK_NOFOLLOW))
        #expect(status.mode & 0o777 == 0o751)
        #expect(status.modified == metadata.modified)
    }
}
