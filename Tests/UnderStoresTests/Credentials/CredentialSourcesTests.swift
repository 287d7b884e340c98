import Platform
import Testing

@testable import UnderStores

@Suite("Where AWS credentials are found")
struct CredentialSourcesTests {
    static let json = """
        {"Code":"Success","AccessKeyId":"ID","SecretAccessKey":"SECRET","Token":"TOKEN","Expiration":"2026-11-22T13:00:00Z"}
        """

    @Test("in the environment, before the profile")
    func environment() async throws {
        let world = try AWSWorld(
            credentials: "[default]\naws_access_key_id=P\naws_secret_access_key=p\n",
            ["AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "e", "AWS_SESSION_TOKEN": "t"])
        let found = try await world.chain().credentials()
        #expect(found?.accessKeyID == "E" && found?.secretAccessKey == "e" && found?.sessionToken == "t")
        #expect(found?.source == "environment")
        #expect(
            try await world.chain(profile: "default").credentials()?.accessKeyID == "P", "a named profile counts first")
    }

    @Test("half a key in the environment is an error, not a reason to look on")
    func halfEnvironment() async throws {
        let world = try AWSWorld(
            credentials: "[default]\naws_access_key_id=P\naws_secret_access_key=p\n", ["AWS_ACCESS_KEY_ID": "E"])
        let error = await storeError { _ = try await world.chain().credentials() }
        #expect(error?.kind == .accessDenied && error?.message.contains("AWS_SECRET_ACCESS_KEY is not") == true)
    }

    @Test(
        "in a named file, in its three forms",
        arguments: [
            "aws_access_key_id = K\naws_secret_access_key = S\n", "access_key_id=K\nsecret_access_key=S\n",
            "[default]\naws_access_key_id = K\naws_secret_access_key = S\n",
        ])
    func namedFile(text: String) async throws {
        let world = try AWSWorld(["AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "e"])
        try world.scratch.write("keys", Array(text.utf8))
        let found = try await world.chain(file: world.scratch.path + "/keys").credentials()
        #expect(found?.accessKeyID == "K" && found?.secretAccessKey == "S")
    }

    @Test("a named file that is missing or incomplete is an error")
    func badNamedFile() async throws {
        let world = try AWSWorld()
        try world.scratch.write("keys", Array("aws_access_key_id = K\n".utf8))
        for (name, part) in [("none", "does not exist"), ("keys", "lacks")] {
            let error = await storeError {
                _ = try await world.chain(file: world.scratch.path + "/" + name).credentials()
            }
            #expect(error?.message.contains(part) == true, "\(name)")
        }
    }

    @Test("in profiles of both files; the credentials file counts first")
    func profiles() async throws {
        let world = try AWSWorld(
            config:
                "[default]\naws_access_key_id=C\naws_secret_access_key=c\n[profile lake]\naws_access_key_id=L\naws_secret_access_key=l\n",
            credentials: "[default]\naws_access_key_id=D\naws_secret_access_key=d\naws_session_token=s\n")
        #expect(try await world.chain().credentials()?.accessKeyID == "D")
        #expect(try await world.chain().credentials()?.sessionToken == "s")
        #expect(try await world.chain(profile: "lake").credentials()?.accessKeyID == "L")
        var named = world
        named.environment["AWS_PROFILE"] = "lake"
        #expect(try await named.chain().credentials()?.accessKeyID == "L")
    }

    @Test("a profile that is named must exist")
    func missingProfile() async throws {
        let world = try AWSWorld(config: "[default]\n")
        let error = await storeError { _ = try await world.chain(profile: "lake").credentials() }
        #expect(error?.message == "profile \"lake\" is not in ~/.aws/config, ~/.aws/credentials")
    }

    @Test("a malformed file is an error with its line, unless the environment has keys")
    func malformedFile() async throws {
        let world = try AWSWorld(config: "[default]\nregion = r\nnonsense\n")
        let error = await storeError { _ = try await world.chain().credentials() }
        #expect(error?.kind == .invalid && error?.message.hasPrefix("~/.aws/config, line 3: ") == true)
        var keys = world
        keys.environment.merge(["AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "e"]) { $1 }
        #expect(try await keys.chain().credentials()?.accessKeyID == "E")
    }

    @Test("by web identity: unsigned, with the token of now")
    func webIdentity() async throws {
        let world = try AWSWorld([
            "AWS_ROLE_ARN": "arn:aws:iam::1:role/lake", "AWS_ROLE_SESSION_NAME": "pod", "AWS_REGION": "eu-west-1",
        ])
        var withFile = world
        withFile.environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = world.scratch.path + "/token"
        try world.scratch.write("token", Array("first=+token\n".utf8))
        let transport = ScriptedTransport { _ in assumed("AssumeRoleWithWebIdentity", id: "W") }
        let chain = withFile.chain(transport)
        let found = try #require(try await chain.credentials())
        #expect(found.accessKeyID == "W" && found.secretAccessKey == "secret/W" && found.sessionToken == "token-W")
        #expect(found.expiry == FileTime(seconds: StoppedClock.start + 3600))
        try world.scratch.write("token", Array("second".utf8))
        await chain.invalidate(found)
        _ = try await chain.credentials()
        let requests = transport.requests
        #expect(requests.map(\.url) == Array(repeating: "https://sts.eu-west-1.amazonaws.com/", count: 2))
        #expect(requests[0].method == .post && requests[0].header("Authorization") == nil)
        #expect(
            requests[0].bodyText == "Action=AssumeRoleWithWebIdentity&Version=2011-06-15"
                + "&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Flake&RoleSessionName=pod&WebIdentityToken=first%3D%2Btoken")
        #expect(requests[1].bodyText.hasSuffix("&WebIdentityToken=second"))
    }

    @Test("a refused web identity says which role and why, without the token")
    func refusedWebIdentity() async throws {
        var world = try AWSWorld(["AWS_ROLE_ARN": "arn:aws:iam::1:role/lake"])
        try world.scratch.write("token", Array("TOKEN".utf8))
        world.environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = world.scratch.path + "/token"
        let transport = ScriptedTransport { _ in
            .text(
                "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>TOKEN</Message></Error></ErrorResponse>",
                status: 400)
        }
        let chain = world.chain(transport)
        let error = await storeError { _ = try await chain.credentials() }
        #expect(error?.kind == .accessDenied)
        #expect(error?.message.contains("ExpiredTokenException for role arn:aws:iam::1:role/lake") == true)
        #expect(error?.message.contains("TOKEN") == false)
    }

    @Test("at the container endpoint of ECS")
    func relativeContainer() async throws {
        let world = try AWSWorld(["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"])
        let transport = ScriptedTransport { _ in .text(Self.json) }
        let found = try await world.chain(transport).credentials()
        #expect(found?.accessKeyID == "ID" && found?.sessionToken == "TOKEN" && found?.source == "container endpoint")
        #expect(transport.requests.map(\.url) == ["http://169.254.170.2/v2/credentials/x"])
        #expect(!transport.requests.contains { !$0.bypassesProxy })
    }

    @Test("at the endpoint of EKS Pod Identity, with the token of its file")
    func podIdentity() async throws {
        var world = try AWSWorld(["AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials"])
        try world.scratch.write("token", Array("pod-token\n".utf8))
        world.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = world.scratch.path + "/token"
        let transport = ScriptedTransport { _ in .text(Self.json) }
        _ = try await world.chain(transport).credentials()
        #expect(transport.requests.first?.header("Authorization") == "pod-token")
    }

    @Test(
        "a container's token goes to no other host in the clear",
        arguments: [
            ("https://agent.example.com/x", true), ("http://localhost:8080/x", true), ("http://127.0.0.7/x", true),
            ("http://[::1]:99/x", true), ("http://[fd00:ec2::23]/v1", true), ("http://169.254.170.23/v1", true),
            ("http://169.254.170.2/", true), ("http://example.com/", false), ("http://127.0.0.1.example.com/", false),
            ("http://127.0.0.1@example.com/", false), ("http://example.com\\@127.0.0.1/", false),
            ("ftp://127.0.0.1/", false),
            ("http://[::2]/", false), ("https://", false), ("http://169.254.169.254/", false),
        ])
    func containerHosts(url: String, isAllowed: Bool) async throws {
        #expect(ContainerCredentials.mayReceiveToken(url) == isAllowed)
        guard !isAllowed else { return }
        let world = try AWSWorld(["AWS_CONTAINER_CREDENTIALS_FULL_URI": url])
        let transport = ScriptedTransport { _ in .text(Self.json) }
        let error = await storeError { _ = try await world.chain(transport).credentials() }
        #expect(error?.kind == .invalid && transport.requests.isEmpty)
    }

    @Test("in instance metadata, by version 2 alone")
    func instanceMetadata() async throws {
        let world = try AWSWorld(["AWS_EC2_METADATA_DISABLED": ""])
        let transport = ScriptedTransport { request in
            switch (request.method, request.url) {
            case (.put, "http://169.254.169.254/latest/api/token"): return .text("session")
            case (.get, "http://169.254.169.254/latest/meta-data/iam/security-credentials/"):
                return .text("lake-role\n")
            case (.get, "http://169.254.169.254/latest/meta-data/iam/security-credentials/lake-role"):
                return .text(Self.json)
            default: return .text("", status: 400)
            }
        }
        let found = try await world.chain(transport).credentials()
        #expect(found?.accessKeyID == "ID" && found?.source == "instance metadata, role lake-role")
        #expect(found?.expiry == FileTime(seconds: StoppedClock.start + 3600))
        let requests = transport.requests
        #expect(requests.first?.header("X-aws-ec2-metadata-token-ttl-seconds") == "21600")
        #expect(requests.dropFirst().allSatisfy { $0.header("X-aws-ec2-metadata-token") == "session" })
        #expect(requests.count == 3 && requests.allSatisfy(\.bypassesProxy))
    }

    @Test("a metadata service that names a role with a path in it is not followed")
    func hostileRole() async throws {
        let world = try AWSWorld(["AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://h/"])
        let transport = ScriptedTransport { request in request.method == .put ? .text("t") : .text("../../user-data") }
        let error = await storeError { _ = try await world.chain(transport).credentials() }
        #expect(error?.kind == .protocolViolation)
        #expect(transport.requests.map(\.url).contains { $0.contains("..") } == false)
    }

    @Test("when there are none, the error is one line with every place and its reason")
    func nothing() async throws {
        let world = try AWSWorld(["AWS_EC2_METADATA_DISABLED": ""])
        let error = await storeError { _ = try await world.chain().credentials() }
        #expect(error?.kind == .accessDenied)
        #expect(
            error?.message
                == "no AWS credentials found in: environment (AWS_ACCESS_KEY_ID is not set); "
                + "profile \"default\" (not in ~/.aws/config, ~/.aws/credentials); "
                + "web identity (AWS_WEB_IDENTITY_TOKEN_FILE is not set); "
                + "container endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI is not set); "
                + "instance metadata (nobody answers at http://169.254.169.254); "
                + "configure one of them, or use --anonymous")
    }

    @Test(
        "an answer that is no credentials is refused without repeating it",
        arguments: [
            "<html>SECRET</html>", "{\"AccessKeyId\":\"SECRET\"}", "[]", "",
            "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"SECRET\",\"Expiration\":\"soon\"}",
        ])
    func malformedAnswer(body: String) async throws {
        let world = try AWSWorld(["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"])
        let chain = world.chain(ScriptedTransport { _ in .text(body) })
        let error = await storeError { _ = try await chain.credentials() }
        #expect(error?.kind == .protocolViolation && error?.message.contains("SECRET") == false)
    }

    @Test("no description of credentials shows a secret")
    func redaction() async throws {
        let world = try AWSWorld([
            "AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "HUSH", "AWS_SESSION_TOKEN": "HUSH2",
        ])
        let found = try #require(try await world.chain().credentials())
        var dumped = ""
        dump(found, to: &dumped)
        for text in [
            "\(found)", String(describing: found), String(reflecting: found), dumped, "\(Optional(found) as Any)",
        ] {
            #expect(!text.contains("HUSH"))
        }
    }
}
