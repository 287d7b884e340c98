import Commands
import Foundation
import TestSupport
import Testing

@Suite struct OptionListTests {
    @Test func optionsAreSplitAtCommasThatAreNotEscaped() {
        let options = OptionList.parse("ro,endpoint=http://h:1,,fsname=a\\,b\\\\,x-systemd.requires=net,k=a=b")
        #expect(options.map(\.key) == ["ro", "endpoint", "fsname", "x-systemd.requires", "k"])
        #expect(options.map(\.value) == [nil, "http://h:1", "a,b\\", "net", "a=b"])
    }

    @Test func whatIsWrittenIsReadBack() {
        let options: [(key: String, value: String?)] = [("flag", nil), ("path", "/a,b\\c"), ("url", "http://h/?a=b")]
        let again = OptionList.parse(OptionList.text(options))
        #expect(again.map(\.key) == options.map(\.key))
        #expect(again.map(\.value) == options.map(\.value))
    }
}

@Suite struct MountInvocationTests {
    private func invocation(
        _ options: String, source: String = "s3://b"
    ) throws -> MountInvocation {
        try MountInvocation(source: source, mountPoint: "/mnt", options: OptionList.parse(options), directory: "/home")
    }

    @Test func everyFlagIsAlsoAnOption() throws {
        let invocation = try invocation(
            "endpoint=http://h:1,region=r,profile=p,path-style=on,read-only,allow-other,cache-dir=c,cache-size=1GiB,"
                + "ram-size=0,metadata-ttl=1m,negative-ttl=0,write-type=cacheThrough,coordinator=s.sock,foreground,"
                + "log-level=debug,uid=5,credentials-file=k,nonempty")
        #expect(invocation.settings[.endpoint] == "http://h:1")
        #expect(invocation.settings[.credentialsFile] == "/home/k")
        #expect(invocation.settings[.metadataTTL] == "60s")
        #expect(invocation.settings[.uid] == "5")
        #expect(invocation.allowOther && invocation.foreground && invocation.nonEmpty)
        #expect(invocation.cacheDirectory == "/home/c")
        #expect(invocation.cacheSize == 1 << 30)
        #expect(invocation.ramSize == 0)
        #expect(invocation.coordinator == "/home/s.sock")
        #expect(invocation.logLevel.description == "debug")
    }

    @Test func anFstabLineOfAnyOriginIsUnderstood() throws {
        let invocation = try invocation(
            "rw,_netdev,nofail,user,noauto,x-systemd.automount,x-gvfs-hide,ro,allow_other,dev,suid,defaults,comment=me,"
                + "path_style=off,metadata_ttl=5s,nosuid,noexec")
        #expect(invocation.allowOther)
        #expect(invocation.settings[.pathStyle] == "off")
        #expect(invocation.settings[.metadataTTL] == "5s")
        #expect(invocation.settings[.readOnly] == "true", "ro came after rw")
        #expect(invocation.kernelOptions == ["nosuid", "noexec"])
    }

    @Test(arguments: [
        ("endpiont=http://h", "did you mean endpoint?"), ("bogus", "unknown mount option bogus"),
        ("endpoint", "needs a value"), ("cache-size=", "needs a value"),
        ("cache-size=big", "option cache-size: \"big\""),
        ("cache-size=0", "is 0"), ("allow_other=maybe", "takes no value"), ("log-level=loud", "is not a log level"),
        ("write-type=sometimes", "cacheThrough, through"), ("uid=me", "option uid"),
        ("anonymous,profile=x", "contradicts"),
        ("read-only=perhaps", "neither true nor false"), ("tags=a", "list of tags"),
        ("kms-key-id=k", "needs serverSideEncryption"),
    ])
    func aWrongOptionIsNamed(options: String, reason: String) {
        let failure = failure { _ = try invocation(options) }
        #expect(failure.code == 64)
        #expect(failure.message.contains(reason), "\(failure.message)")
    }

    @Test func relativePathsAreMadeAbsolute() throws {
        let directory = try TemporaryDirectory()
        let file = try directory.make("ns.yaml", "mounts: [{path: /a, source: s3://b}]")
        let byFile = try MountInvocation(
            source: "ns.yaml", mountPoint: "../mnt", options: [], directory: directory.path)
        #expect(byFile.source == .namespaceFile(file))
        #expect(byFile.mountPoint == FilePaths.parent(of: directory.path) + "/mnt")
        let byDirectory = try MountInvocation(source: ".", mountPoint: "/m", options: [], directory: directory.path)
        #expect(byDirectory.source == .store(.local(directory.path)))
        #expect(try byFile.namespace().mounts.map(\.path) == ["/a"])
        #expect(try byDirectory.namespace().mounts.map(\.path) == ["/"])
    }

    @Test func aSourceThatIsNothingIsExplained() {
        let failure = failure { _ = try invocation("", source: "nowhere") }
        #expect(failure.code == 66)
        #expect(failure.message.contains("/home/nowhere") && failure.message.contains("s3://bucket/prefix"))
    }

    @Test func anOptionOfOneMountPointHasNoPlaceBesideANamespaceFile() throws {
        let directory = try TemporaryDirectory()
        let file = try directory.make("ns.yaml", "mounts: [{path: /a, source: s3://b}]")
        let failure = failure { _ = try invocation("ro,endpoint=http://h", source: file) }
        #expect(failure.message.contains("write endpoint into \(file)"))
        _ = try invocation("ro,allow_other", source: file)
    }

    @Test func theArgumentsForTheDaemonSayTheSame() throws {
        let original = try invocation(
            "endpoint=http://h:1,allow_other,cache-dir=/a\\,b,cache-size=1536MiB,ram-size=64k,log-level=debug,noexec,"
                + "profile=x=y,coordinator=/s", source: "s3://b/a,b")
        let arguments = original.arguments()
        #expect(arguments.first == "mount")
        let again = try MountInvocation(
            source: arguments[1], mountPoint: arguments[2], options: OptionList.parse(arguments[4]), directory: "/")
        #expect(again == original)
    }
}

@Suite struct MountHelperTests {
    private let commands: Set<String> = ["mount", "umount", "status"]

    private func translate(_ arguments: String...) throws -> MountHelper.Request {
        try MountHelper.translate(arguments, commands: commands)
    }

    @Test func mountCallsTheHelperByItsName() throws {
        #expect(
            try translate(
                "/sbin/mount.fuse.larder", "s3://b", "/mnt", "-n", "-v", "-o", "rw,uid=1", "-t", "fuse.larder")
                == .arguments(["mount", "s3://b", "/mnt", "-o", "rw,uid=1"]))
        #expect(try translate("mount.larder", "s3://b", "/mnt", "-f") == .pretend)
    }

    @Test func mountFuse3CallsTheProgramWithSourceAndMountPoint() throws {
        #expect(
            try translate("larder", "s3://b", "/mnt", "-o", "ro,dev,suid")
                == .arguments(["mount", "s3://b", "/mnt", "-o", "ro,dev,suid"]))
        #expect(try translate("larder", "ns.yaml", "/mnt") == .arguments(["mount", "ns.yaml", "/mnt"]))
    }

    @Test func commandsAndFlagsAreLeftAlone() throws {
        #expect(try translate("larder", "status", "--json") == .arguments(["status", "--json"]))
        #expect(try translate("larder", "--version") == .arguments(["--version"]))
        #expect(try translate("larder") == .arguments([]))
    }

    @Test func aMistypedCommandIsCorrected() {
        let failure = failure { _ = try translate("larder", "moutn", "s3://b", "/mnt") }
        #expect(failure.code == 64)
        #expect(failure.message.contains("did you mean mount?"))
    }

    @Test func aHelperWithoutAMountPointIsAnError() {
        #expect(
            failure { _ = try translate("mount.fuse.larder", "s3://b", "-o", "ro") }.message.contains(
                "SOURCE MOUNTPOINT"))
    }
}

@Suite struct SocketLocationTests {
    @Test func theRuntimeDirectoryComesFirstWhenItIsTheUsers() {
        let environment = ["XDG_RUNTIME_DIR": "/run/user/1000"]
        #expect(
            SocketLocation.preferred(environment: environment, uid: 1000) { _, _ in true }
                == "/run/user/1000/larder/coordinator.sock")
        #expect(
            SocketLocation.preferred(environment: environment, uid: 0) { _, _ in false }
                == "/run/larder/coordinator.sock")
        #expect(
            SocketLocation.preferred(environment: environment, uid: 7) { _, _ in false }
                == "/tmp/larder-7/coordinator.sock")
        #expect(SocketLocation.preferred(environment: [:], uid: 0) { _, _ in true } == "/run/larder/coordinator.sock")
        #expect(
            SocketLocation.preferred(environment: ["XDG_RUNTIME_DIR": "relative"], uid: 7) { _, _ in true }
                == "/tmp/larder-7/coordinator.sock")
    }

    @Test func theDirectoryIsPrivate() throws {
        let directory = try TemporaryDirectory()
        try SocketLocation.prepareDirectory(of: directory.path + "/a/larder/coordinator.sock")
        let attributes = try FileManager.default.attributesOfItem(atPath: directory.path + "/a/larder")
        #expect(attributes[.posixPermissions] as? Int == 0o700)
        try SocketLocation.prepareDirectory(of: directory.path + "/a/larder/coordinator.sock")
    }

    @Test func aDirectoryOfAnotherUserIsRefused() throws {
        let directory = try TemporaryDirectory()
        let failure = failure { try SocketLocation.prepareDirectory(of: directory.path + "/c.sock", uid: 12345) }
        #expect(failure.code == 77)
        #expect(failure.message.contains("belongs to user"))
    }

    @Test func aDirectoryThatOthersCanWriteOrALinkIsRefused() throws {
        let directory = try TemporaryDirectory()
        let open = directory.path + "/open"
        try FileManager.default.createDirectory(atPath: open, withIntermediateDirectories: false)
        try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: open)
        #expect(failure { try SocketLocation.prepareDirectory(of: open + "/c.sock") }.message.contains("chmod 700"))
        let link = directory.path + "/link"
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: open)
        #expect(
            failure { try SocketLocation.prepareDirectory(of: link + "/c.sock") }.message.contains("is not a directory")
        )
    }

    @Test func aSocketPathThatTheKernelCannotHoldIsRefused() {
        let path = "/" + String(repeating: "x", count: 120) + "/c.sock"
        #expect(failure { try SocketLocation.prepareDirectory(of: path) }.message.contains("longer than 107 bytes"))
    }
}
