import Glibc
import Platform
import TestSupport
import Testing

@testable import UnderStores

/// The contract on real S3 servers. What does not apply on each is listed, so that nothing is left out unseen.
@Suite("The under-store contract on S3 servers")
struct S3ContractTests {
    private let neverOnS3 = [
        "a source descriptor gives the object's bytes, and only of the expected version", "the space adds up",
    ]

    @Test("holds on moto")
    func moto() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        let results = await StoreContract(try server.store(bucket.bucket), fixture: S3Fixture(bucket)).run()
        expectAllPassed(results, except: neverOnS3)
    }

    @Test("holds on the gateway of JuiceFS")
    func gateway() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let bucket = try await server.makeBucket()
        // It is a file system underneath: `odd//empty` is `odd/empty` to it, and `a` cannot lie beside `a/b`.
        let fixture = S3Fixture(bucket, misplaced: ["odd//empty"])
        let results = await StoreContract(try server.store(bucket.bucket), fixture: fixture).run()
        expectAllPassed(
            results, except: neverOnS3 + ["an object beside a directory of its name is hidden and reported"])
    }

    @Test("holds on rclone")
    func rclone() async throws {
        let server = try await RcloneS3Server.start(directoryCacheTime: "5m")
        let bucket = try await server.makeBucket()
        // It takes texts that Unicode calls equal for one name, shows a control character as its picture, keeps no
        // markers.
        let misplaced: Set<ByteString> = [ByteString("names/cafe\u{301}"), "names/tab\tname", "marked/"]
        let fixture = S3Fixture(bucket, misplaced: misplaced, manyObjects: 100)
        let results = await StoreContract(try server.store(bucket.bucket), fixture: fixture).run()
        await server.stop()
        expectAllPassed(
            results,
            except: neverOnS3 + [
                "an object beside a directory of its name is hidden and reported",
                "a marker object makes a directory, and is not in it",
            ])
    }
}

/// Writes with a plain client; what the server refuses it cannot have.
struct S3Fixture: ContractFixture {
    private let bucket: S3Admin
    /// Keys that the server accepts, but keeps under another name or not at all.
    private let misplaced: Set<ByteString>
    let manyObjects: Int

    /// - Parameter manyObjects: more than the 1000 of a page of ListObjectsV2, if the server is quick enough.
    init(_ bucket: S3Admin, misplaced: Set<ByteString> = [], manyObjects: Int = 1010) {
        self.bucket = bucket
        self.misplaced = misplaced
        self.manyObjects = manyObjects
    }

    var hasFlatKeys: Bool { true }

    func put(_ path: ByteString, _ bytes: [UInt8]) async throws {
        if misplaced.contains(path) { throw ContractNotApplicable("the server does not keep the key \"\(path)\"") }
        do { try await bucket.put(path, bytes) } catch is TestSetupError {
            throw ContractNotApplicable("the server refuses the key \"\(path)\"")
        }
    }

    func put(_ paths: [ByteString], _ bytes: [UInt8]) async throws {
        try await bucket.put(paths, String(decoding: bytes, as: UTF8.self))
    }

    func remove(_ path: ByteString) async throws { try await bucket.delete(path) }

    func link(_ path: ByteString, to target: ByteString) async throws {
        let mode = S_IFLNK | 0o777
        try await bucket.put(path, target.bytes, headers: [("x-amz-meta-mode", String(mode))])
    }
}
