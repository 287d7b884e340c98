import Commands
import Coordination
import Foundation
import TestSupport
import Testing

@Suite struct NamespaceFileTests {
    @Test func everyFieldReachesTheCoordinator() throws {
        let text = """
            mounts:
              - path: /lake/
                source: s3://bucket/prefix
                endpoint: http://127.0.0.1:9000
                region: eu-west-1
                profile: lake
                credentialsFile: keys
                pathStyle: on
                requesterPays: true
                caFile: /etc/ca.pem
                proxy: http://proxy:3128
                sseCustomerKeyFile: sse.key
                insecureTLS: true
                readOnly: true
                metadataTTL: 1m
                negativeTTL: 500ms
                cache: always
                uid: 1000
                gid: 100
                writeType: asyncThrough
                writeTypes: checkpoints=through
                storageClass: STANDARD_IA
                tags: team=data;tier=gold
                acl: private
                fileMode: 0640
                dirMode: "0750"
              - {path: /scratch, source: /data}
            """
        let wire = try NamespaceFile.parse(text, file: "/etc/larder/ns.yaml").wire(environment: [:])
        var lake = WireMountSpecification()
        lake.path = "/lake"
        lake.source = "s3://bucket/prefix"
        lake.endpoint = "http://127.0.0.1:9000"
        lake.region = "eu-west-1"
        lake.profile = "lake"
        lake.credentialsFile = "/etc/larder/keys"
        lake.pathStyle = "on"
        lake.requesterPays = true
        lake.caFile = "/etc/ca.pem"
        lake.proxy = "http://proxy:3128"
        lake.customerKeyFile = "/etc/larder/sse.key"
        lake.insecureTls = true
        lake.readOnly = true
        lake.metadataTtlMilliseconds = 60_000
        lake.negativeTtlMilliseconds = 500
        lake.cache = "always"
        lake.uid = 1000
        lake.gid = 100
        lake.writeType = "asyncThrough"
        lake.writeTypes = ["checkpoints": "through"]
        lake.storageClass = "STANDARD_IA"
        lake.tags = ["team": "data", "tier": "gold"]
        lake.acl = "private"
        lake.fileMode = 0o640
        lake.directoryMode = 0o750
        var scratch = WireMountSpecification()
        scratch.path = "/scratch"
        scratch.source = "file:///data"
        #expect(wire.mounts == [lake, scratch])
    }

    /// Text, the line, and what else the error must say.
    static let mistakes: [(text: String, line: Int, field: String, reason: String)] = [
        (
            "mounts:\n  - path: /a\n    source: s3://b\n    endpint: http://x\n", 4, "mounts[0].endpint",
            "did you mean endpoint?"
        ),
        (
            "mounts:\n  - path: /a\n    source: s3://b\n    metadata-ttl: 5s\n", 4, "mounts[0].metadata-ttl",
            "metadataTTL?"
        ),
        ("mounts:\n  - path: /a\n    source: s3://b\n    zzz: 1\n", 4, "mounts[0].zzz", "there are: path, source"),
        ("mounts:\n  - path: /a\n", 2, "mounts[0]", "has no source"),
        ("mounts:\n  - source: s3://b\n", 2, "mounts[0]", "has no path"),
        ("mounts:\n  - path: /a\n    source:\n", 3, "mounts[0].source", "is empty"),
        ("mounts:\n  - path: /a\n    source: [s3://b]\n", 3, "mounts[0].source", "not a list"),
        ("mounts:\n  - path: /a\n    source: {x: y}\n", 3, "mounts[0].source", "not a mapping"),
        ("mounts:\n  - path: a\n    source: s3://b\n", 2, "mounts[0].path", "must start with a slash"),
        ("mounts:\n  - path: /a/../b\n    source: s3://b\n", 2, "mounts[0].path", "the part \"..\""),
        ("mounts:\n  - path: /a\n    source: data\n", 3, "mounts[0].source", "absolute path"),
        ("mounts:\n  - path: /a\n    source: ftp://b\n", 3, "mounts[0].source", "has the scheme ftp"),
        ("mounts:\n  - path: /a\n    source: s3://b\n    metadataTTL: [1]\n", 4, "mounts[0].metadataTTL", "not a list"),
        ("mounts:\n  - path: /a\n    source: s3://b\n    endpoint: nowhere\n", 4, "mounts[0].endpoint", "is not a URL"),
        (
            "mounts:\n  - path: /a\n    source: s3://b\n    anonymous: true\n    profile: x\n", 5, "mounts[0].profile",
            "contradicts"
        ),
        ("mounts:\n  - path: /a\n    source: /x\n    region: x\n", 4, "mounts[0].region", "local directory"),
        (
            "mounts:\n  - path: /a\n    source: s3://b\n  - path: /a/\n    source: s3://c\n", 4, "mounts[1].path",
            "same mount point as mounts[0].path"
        ),
        ("mounts:\n  - path: /a\n    source: s3://b\n    path: /c\n", 2, "path", "twice"),
        ("mounts: {}\n", 1, "mounts", "expects a list"),
        ("mounts: []\n", 1, "mounts", "is empty"),
        ("- a\n", 1, "ns.yaml", "expects a mapping"),
        ("mount: []\n", 1, "mount", "did you mean mounts?"),
        ("mounts:\n  - path: \"/a\n", 3, "ns.yaml", "is not valid YAML"),
        ("mounts:\n\t- path: /a\n", 2, "ns.yaml", "is not valid YAML"),
        ("mounts: [*nowhere]\n", 1, "ns.yaml", "is not valid YAML"),
        ("mounts: []\n---\nmounts: []\n", 2, "ns.yaml", "is not valid YAML"),
    ]

    @Test(arguments: mistakes)
    func aMistakeIsReportedWithLineAndField(text: String, line: Int, field: String, reason: String) {
        let failure = failure { _ = try NamespaceFile.parse(text, file: "ns.yaml") }
        #expect(failure.code == 78)
        #expect(failure.message.hasPrefix("ns.yaml:\(line): "), "\(failure.message)")
        #expect(failure.message.contains(field), "\(failure.message)")
        #expect(failure.message.contains(reason), "\(failure.message)")
        #expect(!failure.message.contains("\n"))
    }

    @Test func nestedMountPointsAreFine() throws {
        let text = "mounts:\n- {path: /, source: /a}\n- {path: /b, source: s3://b}\n- {path: /b/c, source: s3://c}\n"
        #expect(try NamespaceFile.parse(text, file: "n").mounts.map(\.path) == ["/", "/b", "/b/c"])
    }

    @Test func anEmptyFileSaysSo() {
        #expect(failure { _ = try NamespaceFile.parse("# nothing\n", file: "n.yaml") }.message == "n.yaml: is empty")
    }

    @Test func aFileThatIsNotThereNamesItsPath() {
        let failure = failure { _ = try NamespaceFile.read("/nowhere/ns.yaml") }
        #expect(failure.code == 66)
        #expect(failure.message.contains("/nowhere/ns.yaml"))
    }

    @Test func aFileThatIsNotTextIsRefused() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/n.yaml"
        #expect(throws: (any Error).self) { _ = try NamespaceFile.read(directory.path) }
        try Data([0x6d, 0xff, 0xfe, 0x00]).write(to: URL(fileURLWithPath: path))
        #expect(failure { _ = try NamespaceFile.read(path) }.message == "\(path): is not UTF-8 text")
    }

    @Test func deepNestingIsAnErrorNotACrash() {
        let text = "mounts: " + String(repeating: "[", count: 100_000)
        #expect(failure { _ = try NamespaceFile.parse(text, file: "n.yaml") }.code == 78)
    }
}

@Suite struct CoordinatorFileTests {
    @Test func theDocumentedFileIsRead() throws {
        let settings = try CoordinatorFile.parse(
            """
            socket: /run/larder/coordinator.sock
            stateDirectory: /var/lib/larder
            cache:
              blockSize: 128KiB
              tiers:
                - {kind: ram, path: /dev/shm/larder, size: 2GiB}
                - {kind: disk, path: /var/cache/larder, size: 100GiB, reserve: 1GiB}
            http: {listen: "127.0.0.1:9809"}
            logLevel: info
            """, file: "c.yaml")
        #expect(settings.socket == "/run/larder/coordinator.sock")
        #expect(settings.stateDirectory == "/var/lib/larder")
        #expect(settings.blockSize == 131_072)
        #expect(
            settings.tiers == [
                .init(kind: .ram, path: "/dev/shm/larder", size: 2 << 30),
                .init(kind: .disk, path: "/var/cache/larder", size: 100 << 30, reserve: 1 << 30),
            ])
        #expect(settings.http?.host == "127.0.0.1")
        #expect(settings.http?.port == 9809)
        #expect(settings.logLevel.description == "info")
    }

    @Test func whatIsLeftOutHasADefault() throws {
        let settings = try CoordinatorFile.parse("cache: {tiers: [{path: /c, size: 1G}]}", file: "c.yaml")
        #expect(settings.socket == "/run/larder/coordinator.sock")
        #expect(settings.stateDirectory == "/var/lib/larder")
        #expect(settings.blockSize == 131_072)
        #expect(settings.tiers == [.init(kind: .disk, path: "/c", size: 1 << 30)])
        #expect(settings.http == nil)
    }

    @Test(arguments: [
        ("socket: /s\n", "has no cache"), ("cache: {}\n", "has no tiers"), ("cache: {tiers: []}\n", "is empty"),
        ("cache: {tiers: [{size: 1G}]}\n", "has no path"), ("cache: {tiers: [{path: /c}]}\n", "has no size"),
        ("cache: {tiers: [{path: c, size: 1G}]}\n", "absolute path"),
        ("cache: {tiers: [{path: /c, size: 0}]}\n", "is 0"),
        ("cache: {tiers: [{path: /c, size: lots}]}\n", "is not a size"),
        ("cache: {tiers: [{path: /c, size: 1G, kind: tape}]}\n", "ram, disk"),
        ("cache: {tiers: [{path: /c, size: 1G}, {path: /c/, size: 1G}]}\n", "another tier"),
        ("cache: {blockSize: 100k, tiers: [{path: /c, size: 1G}]}\n", "power of two"),
        ("cache: {tiers: [{path: /c, size: 1G}]}\nhttp: {listen: everywhere}\n", "host:port"),
        ("cache: {tiers: [{path: /c, size: 1G}]}\nhttp: 9809\n", "expects a mapping"),
        ("cache: {tiers: [{path: /c, size: 1G}]}\nlogLevel: loud\n", "is not a log level"),
        ("cache: {tier: [{path: /c, size: 1G}]}\n", "did you mean tiers?"),
    ])
    func aMistakeIsExplained(text: String, reason: String) {
        let failure = failure { _ = try CoordinatorFile.parse(text, file: "c.yaml") }
        #expect(failure.code == 78)
        #expect(failure.message.hasPrefix("c.yaml:"), "\(failure.message)")
        #expect(failure.message.contains(reason), "\(failure.message)")
    }
}
