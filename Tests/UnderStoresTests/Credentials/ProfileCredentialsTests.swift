import Platform
import Testing

@testable import UnderStores

@Suite("AWS profiles: roles, programs and settings")
struct ProfileCredentialsTests {
    @Test("a role is taken on with the keys of its source profile")
    func role() async throws {
        let world = try AWSWorld(
            config: """
                [profile lake]
                role_arn = arn:aws:iam::1:role/lake
                source_profile = base
                external_id = x/1
                role_session_name = me
                duration_seconds = 1800
                region = eu-central-1
                """, credentials: "[base]\naws_access_key_id=AKID\naws_secret_access_key=s\naws_session_token=tok\n")
        let transport = ScriptedTransport { _ in assumed("AssumeRole", id: "R") }
        let found = try await world.chain(profile: "lake", transport).credentials()
        #expect(found?.accessKeyID == "R" && found?.source == "role arn:aws:iam::1:role/lake")
        let request = try #require(transport.requests.first)
        #expect(request.url == "https://sts.eu-central-1.amazonaws.com/")
        #expect(
            request.bodyText == "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Flake"
                + "&RoleSessionName=me&ExternalId=x%2F1&DurationSeconds=1800")
        let authorization = try #require(request.header("Authorization"))
        #expect(authorization.hasPrefix("AWS4-HMAC-SHA256 Credential=AKID/20261122/eu-central-1/sts/aws4_request, "))
        #expect(authorization.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, "))
        #expect(request.header("X-Amz-Date") == "20261122T120000Z" && request.header("X-Amz-Security-Token") == "tok")
    }

    @Test("roles chain")
    func roleChain() async throws {
        let world = try AWSWorld(
            config: """
                [profile top]
                role_arn = arn:top
                source_profile = middle
                [profile middle]
                role_arn = arn:middle
                source_profile = base
                [profile base]
                aws_access_key_id = B
                aws_secret_access_key = b
                """)
        let transport = ScriptedTransport { request in
            assumed("AssumeRole", id: request.bodyText.contains("arn%3Atop") ? "TOP" : "MIDDLE")
        }
        #expect(try await world.chain(profile: "top", transport).credentials()?.accessKeyID == "TOP")
        let signers = transport.requests.map { $0.header("Authorization")?.contains("Credential=MIDDLE/") }
        #expect(signers == [false, true])
    }

    @Test("a loop of source profiles is an error that shows it")
    func loop() async throws {
        let world = try AWSWorld(
            config: "[profile a]\nrole_arn=x\nsource_profile=b\n[profile b]\nrole_arn=y\nsource_profile=a\n")
        let error = await storeError { _ = try await world.chain(profile: "a").credentials() }
        #expect(error?.kind == .invalid && error?.message.hasSuffix("a -> b -> a") == true)
    }

    @Test("a role may be taken on with keys of its own profile")
    func selfSource() async throws {
        let world = try AWSWorld(
            config: "[default]\nrole_arn=x\nsource_profile=default\naws_access_key_id=K\naws_secret_access_key=k\n")
        let transport = ScriptedTransport { _ in assumed("AssumeRole", id: "R") }
        #expect(try await world.chain(transport).credentials()?.accessKeyID == "R")
        #expect(transport.requests.first?.header("Authorization")?.contains("Credential=K/") == true)
    }

    @Test("a role may be taken on with the keys of the environment, or a web identity")
    func otherSources() async throws {
        let world = try AWSWorld(
            config: """
                [profile env]
                role_arn = arn:env
                credential_source = Environment
                [profile web]
                role_arn = arn:web
                web_identity_token_file = ~/token
                """, ["AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "e"])
        try world.scratch.write("token", Array("T".utf8))
        let transport = ScriptedTransport { request in
            assumed(
                request.bodyText.contains("WebIdentityToken=T") ? "AssumeRoleWithWebIdentity" : "AssumeRole", id: "R")
        }
        _ = try await world.chain(profile: "env", transport).credentials()
        _ = try await world.chain(profile: "web", transport).credentials()
        #expect(transport.requests.map { $0.header("Authorization")?.contains("Credential=E/") } == [true, nil])
    }

    @Test(
        "what cannot work says so",
        arguments: [
            ("role_arn=x", "needs one of source_profile, credential_source, web_identity_token_file"),
            ("role_arn=x\nsource_profile=a\ncredential_source=Environment", "needs one of"),
            ("role_arn=x\nsource_profile=none", "source_profile \"none\" is not in"),
            ("role_arn=x\nsource_profile=p\nmfa_serial=1\n", "MFA"),
            ("role_arn=x\ncredential_source=Moon", "credential_source must be"),
            ("role_arn=x\ncredential_source=Environment", "AWS_ACCESS_KEY_ID is not set"),
            ("role_arn=x\nsource_profile=p\nduration_seconds=5", "from 900 to 43200"),
            ("aws_access_key_id=x", "no aws_secret_access_key"),
            ("sso_session=x", "aws configure export-credentials --profile p"),
            ("region=x", "has no credentials"),
        ])
    func impossible(settings: String, part: String) async throws {
        let world = try AWSWorld(config: "[profile p]\n\(settings)\n")
        let error = await storeError { _ = try await world.chain(profile: "p").credentials() }
        #expect(error?.message.contains(part) == true, "\(error?.message ?? "no error")")
    }

    @Test("a credential process is run with the environment, and its JSON is used")
    func process() async throws {
        let world = try AWSWorld(["MY_ID": "from-process"])
        let script = """
            #!/bin/sh
            echo SECRET-NOISE >&2
            printf '{"Version":1,"AccessKeyId":"%s","SecretAccessKey":"%s","SessionToken":"t","Expiration":"2026-11-22T12:30:00Z"}' "$MY_ID" "$1"
            """
        try world.scratch.write("program", Array(script.utf8))
        try world.scratch.write(
            ".aws/config", Array("[default]\ncredential_process = sh \(world.scratch.path)/program 'a b'\n".utf8))
        let found = try await world.chain().credentials()
        #expect(found?.accessKeyID == "from-process" && found?.secretAccessKey == "a b" && found?.sessionToken == "t")
        #expect(found?.expiry == FileTime(seconds: StoppedClock.start + 1800))
    }

    @Test(
        "a credential process that fails is an error without its output",
        arguments: [
            ("echo SECRET; exit 3", StoreError.Kind.accessDenied, "exit code 3"),
            ("kill -9 $$", .accessDenied, "was killed"),
            ("echo SECRET", .protocolViolation, "JSON"),
            (
                "echo '{\"Version\":2,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"SECRET\"}'", .protocolViolation,
                "Version"
            ),
            ("echo '{\"Version\":1,\"AccessKeyId\":\"a\"}'", .protocolViolation, "SecretAccessKey"),
            ("/no/such/program", .accessDenied, "exit code 127"),
            (
                "echo '{\"Version\":1,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"SECRET\",\"Expiration\":\"2020-01-01T00:00:00Z\"}'",
                .accessDenied, "expired"
            ),
            ("head -c 300000 /dev/zero", .protocolViolation, "more than"),
        ])
    func failingProcess(command: String, kind: StoreError.Kind, part: String) async throws {
        let world = try AWSWorld(config: "[default]\ncredential_process = \(command)\n")
        let error = await storeError { _ = try await world.chain().credentials() }
        #expect(error?.kind == kind && error?.message.contains(part) == true, "\(error?.message ?? "no error")")
        #expect(error?.message.contains("SECRET") == false)
    }

    @Test(
        "a credential process that hangs is killed with its children",
        arguments: ["sleep 1000", "sleep 1000 >&- & sleep 1000", "exec >&-; sleep 1000"])
    func hangingProcess(command: String) async throws {
        var world = try AWSWorld(config: "[default]\ncredential_process = echo $$ > ~/pid && \(command)\n")
        world.processTimeout = .milliseconds(300)
        let error = await storeError { _ = try await world.chain().credentials() }
        #expect(error?.kind == .unavailable && error?.message.contains("took longer") == true)
        let pid = try #require(Machine.firstLine(of: world.scratch.path + "/pid").flatMap { Int32($0) })
        #expect(!ChildProcess.isRunning(pid))
    }

    @Test("region, endpoints and certificates come from the environment, then the profile")
    func settings() async throws {
        let config = """
            [default]
            region = from-default
            [profile lake]
            region = from-profile
            endpoint_url = http://all
            ca_bundle = ~/ca.pem
            services = local
            [services local]
            s3 =
              endpoint_url = http://s3
            """
        var world = try AWSWorld(config: config)
        var settings = try await AWSSettings.resolve(in: world.surroundings)
        #expect(settings.profile == "default" && !settings.isProfileNamed && settings.region == "from-default")
        #expect(settings.s3Endpoint == nil && settings.stsEndpoint == nil && settings.caBundle == nil)
        settings = try await AWSSettings.resolve(profile: "lake", in: world.surroundings)
        #expect(settings.region == "from-profile" && settings.isProfileNamed)
        #expect(settings.s3Endpoint == "http://s3" && settings.stsEndpoint == "http://all")
        #expect(settings.caBundle == world.scratch.path + "/ca.pem")
        world.environment.merge([
            "AWS_PROFILE": "lake", "AWS_DEFAULT_REGION": "second", "AWS_ENDPOINT_URL": "http://env",
            "AWS_CA_BUNDLE": "/c",
        ]) { $1 }
        settings = try await AWSSettings.resolve(in: world.surroundings)
        #expect(settings.region == "second" && settings.s3Endpoint == "http://env" && settings.caBundle == "/c")
        world.environment.merge(["AWS_REGION": "first", "AWS_ENDPOINT_URL_S3": "http://env-s3"]) { $1 }
        settings = try await AWSSettings.resolve(in: world.surroundings)
        #expect(settings.region == "first" && settings.s3Endpoint == "http://env-s3")
        world.environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true"
        #expect(try await AWSSettings.resolve(in: world.surroundings).s3Endpoint == nil)
    }

    @Test("the files may be elsewhere")
    func otherFiles() async throws {
        var world = try AWSWorld()
        try world.scratch.write("c", Array("[default]\nregion=r\n".utf8))
        try world.scratch.write("k", Array("[default]\naws_access_key_id=K\naws_secret_access_key=s\n".utf8))
        world.environment["AWS_CONFIG_FILE"] = world.scratch.path + "/c"
        world.environment["AWS_SHARED_CREDENTIALS_FILE"] = "~/k"
        #expect(try await AWSSettings.resolve(in: world.surroundings).region == "r")
        #expect(try await world.chain().credentials()?.accessKeyID == "K")
    }
}
