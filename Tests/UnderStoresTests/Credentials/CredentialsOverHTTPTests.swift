import Logging
import Platform
import TestSupport
import Testing

@testable import UnderStores

/// The credential services over real sockets and libcurl.
@Suite("AWS credentials over HTTP")
struct CredentialsOverHTTPTests {
    private func transport() throws -> CurlTransport {
        try CurlTransport(logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
    }

    @Test("instance metadata, version 2")
    func instanceMetadata() async throws {
        let server = try FaultyServer { request in
            let token = request.headers["x-aws-ec2-metadata-token"]
            switch (request.method, request.target) {
            case ("PUT", "/latest/api/token"):
                let lifetime = request.headers["x-aws-ec2-metadata-token-ttl-seconds"]
                return lifetime == "21600" ? .answer(200, body: Array("session".utf8)) : .answer(400)
            case ("GET", "/latest/meta-data/iam/security-credentials/") where token == "session":
                return .answer(200, body: Array("lake".utf8))
            case ("GET", "/latest/meta-data/iam/security-credentials/lake") where token == "session":
                return .answer(200, body: Array(CredentialSourcesTests.json.utf8))
            default: return .answer(401)
            }
        }
        let world = try AWSWorld([
            "AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": server.endpoint,
        ])
        let found = try await world.chain(try transport()).credentials()
        #expect(found?.accessKeyID == "ID" && found?.sessionToken == "TOKEN")
        #expect(server.requests.map(\.method) == ["PUT", "GET", "GET"])
        #expect(server.requests.first?.body.isEmpty == true)
    }

    @Test("a metadata service that is not there is passed over")
    func noInstanceMetadata() async throws {
        let server = try FaultyServer { _ in .refuse }
        let world = try AWSWorld([
            "AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": server.endpoint,
        ])
        let transport = try transport()
        let error = await storeError { _ = try await world.chain(transport).credentials() }
        #expect(error?.kind == .accessDenied)
        #expect(error?.message.contains("instance metadata (nobody answers at \(server.endpoint))") == true)
    }

    @Test("the container endpoint, once more after a fault")
    func container() async throws {
        let server = try FaultyServer { request in
            guard request.headers["authorization"] == "pod-token" else { return .answer(403) }
            return request.index == 0 ? .busy() : .answer(200, body: Array(CredentialSourcesTests.json.utf8))
        }
        let world = try AWSWorld([
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": server.endpoint + "/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "pod-token",
        ])
        #expect(try await world.chain(try transport()).credentials()?.accessKeyID == "ID")
        #expect(server.requests.count == 2)
    }

    @Test("STS with a web identity, and an answer that is cut short")
    func webIdentity() async throws {
        let answer = assumed("AssumeRoleWithWebIdentity", id: "W")
        let server = try FaultyServer { request in
            let good = Fault.answer(200, headers: [("Content-Type", "text/xml")], body: answer.body)
            return request.index == 0 ? .truncate(of: good, after: 40) : good
        }
        var world = try AWSWorld(["AWS_ROLE_ARN": "arn:role", "AWS_ENDPOINT_URL_STS": server.endpoint])
        try world.scratch.write("token", Array("T&1".utf8))
        world.environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = world.scratch.path + "/token"
        #expect(try await world.chain(try transport()).credentials()?.accessKeyID == "W")
        let request = try #require(server.requests.last)
        #expect(request.method == "POST" && request.target == "/" && server.requests.count == 2)
        #expect(String(decoding: request.body, as: UTF8.self).hasSuffix("&WebIdentityToken=T%261"))
    }

    @Test("AssumeRole on moto's STS, and S3 with the role's credentials")
    func motoRole() async throws {
        let server = try await MotoServer.shared.get()
        let world = try AWSWorld(
            config: """
                [profile lake]
                role_arn = arn:aws:iam::123456789012:role/lake
                source_profile = base
                region = us-east-1
                endpoint_url = \(server.endpoint)
                """, credentials: "[base]\naws_access_key_id=AKIABASE\naws_secret_access_key=secret\n")
        let chain = AWSCredentialsChain(environment: world.environment, profile: "lake", transport: try transport())
        let found = try #require(try await chain.credentials())
        #expect(found.accessKeyID.hasPrefix("ASIA") && found.sessionToken?.isEmpty == false)
        #expect(try #require(found.expiry) > FileTime.now())
        let bucket = try await server.makeBucket()
        try await S3Admin(endpoint: server.endpoint, bucket: bucket.bucket, credentials: found).put("k", "v")
    }
}
