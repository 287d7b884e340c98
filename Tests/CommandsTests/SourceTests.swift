import Commands
import TestSupport
import Testing

@Suite struct SourceTests {
    @Test(arguments: [
        ("s3://bucket", "s3://bucket"), ("s3://bucket/", "s3://bucket"), ("S3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://Old_Bucket.1/tëst", "s3://Old_Bucket.1/tëst"), ("file:///data/", "file:///data"),
        ("file:///a/./b/../c", "file:///a/c"), ("/data", "file:///data"), ("data", "file:///home/data"),
        ("../x", "file:///x"), (".", "file:///home"),
    ])
    func sourcesHaveOneForm(text: String, form: String) throws {
        #expect(try MountSource(text, relativeTo: "/home").description == form)
    }

    @Test(arguments: [
        ("", "is empty"), ("s3://", "names no bucket"), ("s3:///key", "names no bucket"), ("s3:bucket", "is not a URL"),
        ("s3a://bucket/x", "write s3://bucket/x"), ("https://host/bucket", "as the endpoint"),
        ("gs://bucket", "has the scheme gs"), ("file://host/dir", "three slashes"), ("s3://b/a//c", "the part \"\""),
        ("s3://b/../c", "the part \"..\""), ("s3://b!/c", "cannot be a bucket"),
        ("s3://user:secret@host/c", "cannot be"),
        ("s3://b/\0", "NUL"),
    ])
    func whatIsNoSourceIsExplained(text: String, reason: String) {
        let failure = failure { _ = try MountSource(text, relativeTo: "/") }
        #expect(failure.code == 64)
        #expect(failure.message.contains(reason))
    }

    @Test func prefixThatDiffersOnlyByCanonicalEquivalenceStaysDifferent() throws {
        let composed = try MountSource("s3://b/\u{e9}", relativeTo: "/").description
        let decomposed = try MountSource("s3://b/e\u{301}", relativeTo: "/").description
        #expect(Array(composed.utf8) != Array(decomposed.utf8))
    }
}

@Suite struct SettingTests {
    private func normalized(_ setting: StoreSetting, _ text: String) throws -> String {
        try setting.normalize(text, relativeTo: "/etc/larder")
    }

    @Test(arguments: StoreSetting.allCases)
    func everySettingHasAnOptionNameOfItsOwn(setting: StoreSetting) {
        #expect(StoreSetting(optionName: setting.optionName) == setting)
        #expect(setting.optionName.allSatisfy { $0.isLowercase || $0 == "-" || $0.isNumber })
    }

    @Test(arguments: [
        (StoreSetting.endpoint, "http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        (.endpoint, "HTTPS://[::1]:9", "https://[::1]:9"),
        (.proxy, "http://me:pw@proxy:3128", "http://me:pw@proxy:3128"), (.metadataTTL, "1m", "60s"),
        (.negativeTTL, "0", "0s"), (.fileMode, "644", "0644"), (.pathStyle, "ON", "on"), (.pathStyle, "false", "off"),
        (.cache, "Never", "never"), (.caFile, "ca.pem", "/etc/larder/ca.pem"), (.uid, "1000", "1000"),
        (.anonymous, "yes", "true"), (.readOnly, "true", "true"),
        (.readOnly, "no", "false"), (.writeType, "asyncthrough", "asyncThrough"), (.tags, "b=2;a=1", "a=1;b=2"),
        (.writeTypes, "tmp=mustcache;a=through", "a=through;tmp=mustCache"), (.acl, "private", "private"),
    ])
    func settingsHaveOneForm(setting: StoreSetting, text: String, form: String) throws {
        #expect(try normalized(setting, text) == form)
        #expect(try normalized(setting, form) == form)
    }

    @Test(arguments: [
        (StoreSetting.endpoint, "localhost:9000", "is not a URL"), (.endpoint, "ftp://host", "has the scheme ftp"),
        (.endpoint, "http://", "names no host"), (.endpoint, "http://host:99999", "has the port"),
        (.endpoint, "http://host:", "has the port"), (.endpoint, "http://host?x=1", "query"),
        (.endpoint, "http://host/s3", "has a path"),
        (.endpoint, "http://a b", "space"), (.endpoint, "http://[::1", "bracket"), (.uid, "root", "numeric"),
        (.uid, "4294967295", "numeric"), (.gid, "-1", "numeric"), (.fileMode, "0999", "octal"),
        (.dirMode, "17777", "octal"),
        (.pathStyle, "maybe", "auto, on, off"), (.cache, "sometimes", "auto, always, never"),
        (.anonymous, "perhaps", "neither true nor false"), (.readOnly, "maybe", "neither true nor false"),
        (.writeType, "sometimes", "asyncThrough"), (.writeTypes, "tmp", "is not a list"), (.tags, "=x", "list of tags"),
        (.storageClass, "cheap", "STANDARD_IA"), (.acl, "all", "public-read"),
        (.serverSideEncryption, "rot13", "AES256"),
        (.region, "", "is empty"),
        (.metadataTTL, "soon", "not a duration"),
    ])
    func wrongValuesAreExplained(setting: StoreSetting, text: String, reason: String) {
        #expect(failure { _ = try normalized(setting, text) }.message.contains(reason))
    }

    @Test func aPasswordInAnEndpointIsNotRepeated() {
        let message = failure { _ = try normalized(.endpoint, "http://me:hunter2@host") }.message
        #expect(message.contains("user name or password"))
        #expect(!message.contains("hunter2"))
    }

    @Test func onlyCredentialVariablesLeaveTheEnvironment() throws {
        let environment = [
            "AWS_PROFILE": "lake", "AWS_SECRET_ACCESS_KEY": "s", "HOME": "/root", "XAWS_": "1", "PATH": "/bin",
        ]
        let chosen = NamespaceSpecification.credentialVariables(of: environment)
        #expect(chosen == ["AWS_PROFILE": "lake", "AWS_SECRET_ACCESS_KEY": "s"])
        let namespace = NamespaceSpecification(mounts: [
            MountEntry(path: "/s3", source: .s3(bucket: "b", prefix: "")),
            MountEntry(path: "/dir", source: .local("/x")),
        ])
        let wire = namespace.wire(environment: chosen)
        #expect(wire.mounts[0].environment == chosen)
        #expect(wire.mounts[1].environment.isEmpty, "a local directory needs no credentials")
    }

    @Test func aLocalSourceMustNotContainTheMountPoint() throws {
        let directory = try TemporaryDirectory()
        let namespace = NamespaceSpecification(mounts: [MountEntry(path: "/", source: .local(directory.path))])
        #expect(throws: CommandFailure.self) { try namespace.checkAgainst(mountPoint: directory.path + "/mnt") }
        #expect(throws: CommandFailure.self) { try namespace.checkAgainst(mountPoint: directory.path) }
        #expect(throws: CommandFailure.self) {
            try namespace.checkAgainst(mountPoint: FilePaths.parent(of: directory.path))
        }
        try namespace.checkAgainst(mountPoint: directory.path + "-other")
    }
}
