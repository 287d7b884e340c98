import ArgumentParser

/// The flags that name a store; for every command that takes a SOURCE.
struct StoreFlags: ParsableArguments {
    @Option(help: ArgumentHelp("Address of the S3 server; AWS by default.", valueName: "url"))
    var endpoint: String?
    @Option(help: ArgumentHelp("Region of the bucket; found out by default.", valueName: "name"))
    var region: String?
    @Option(help: ArgumentHelp("Profile of ~/.aws/config and ~/.aws/credentials.", valueName: "name"))
    var profile: String?
    @Flag(help: "Send requests without a signature.")
    var anonymous = false
    @Option(
        help: ArgumentHelp("Put the bucket into the path instead of the host name: auto, on, off.", valueName: "mode"))
    var pathStyle: String?
    @Option(
        help: ArgumentHelp(
            "Certificates (PEM) to trust instead of the system's, for a server with a private authority.",
            valueName: "file"), completion: .file())
    var caFile: String?
    @Option(
        name: .customShort("o", allowingJoined: true),
        help: ArgumentHelp(
            "Options as for mount(8): any flag above without its dashes, the keys of a namespace file in lower case "
                + "with dashes (uid=1000, cache=always, credentials-file=…), nonempty.", valueName: "k=v,…"))
    var options: [String] = []

    /// `-o` first, then the flags, which win.
    func list() -> [(key: String, value: String?)] {
        var result = options.flatMap { OptionList.parse($0) }
        let valued = [
            ("endpoint", endpoint), ("region", region), ("profile", profile), ("path-style", pathStyle),
            ("ca-file", caFile),
        ]
        for (key, value) in valued where value != nil { result.append((key, value)) }
        if anonymous { result.append(("anonymous", nil)) }
        return result
    }
}

/// The flags of `larder mount`; each is also an option after `-o`.
struct MountFlags: ParsableArguments {
    @OptionGroup(title: "Store") var store: StoreFlags
    @Flag(help: "Mount read-only.")
    var readOnly = false
    @Flag(help: "Let other users use the mount.")
    var allowOther = false
    @Option(help: ArgumentHelp("Cache directory of the coordinator that this mount starts.", valueName: "dir"))
    var cacheDir: String?
    @Option(help: ArgumentHelp("How much it may hold, for instance 100GiB.", valueName: "size"))
    var cacheSize: String?
    @Option(help: ArgumentHelp("How much of it may be in memory; 0 by default.", valueName: "size"))
    var ramSize: String?
    @Option(
        name: .customLong("metadata-ttl"),
        help: ArgumentHelp("How long sizes and names are believed; 60s by default.", valueName: "time"))
    var metadataTTL: String?
    @Option(
        name: .customLong("negative-ttl"),
        help: ArgumentHelp(
            "How long a name that is not there is believed to be absent; 5s by default.", valueName: "time"))
    var negativeTTL: String?
    @Option(
        help: ArgumentHelp(
            "What close and fsync wait for: cacheThrough (the store has it), through (and it is not kept), "
                + "asyncThrough (this node has it), mustCache (it is never uploaded).", valueName: "type"))
    var writeType: String?
    @Option(help: ArgumentHelp("Socket of a running coordinator, instead of your own.", valueName: "socket"))
    var coordinator: String?
    @Flag(help: "Stay in the foreground; logs go to standard error.")
    var foreground = false
    @Option(help: ArgumentHelp("trace, debug, info, notice, warning, error.", valueName: "level"))
    var logLevel: String?
    /// Where a daemon tells its starter how it went.
    @Option(help: .private)
    var statusFD: Int32?
    /// Where the process that serves the mount speaks with its supervisor.
    @Option(help: .private)
    var sessionFD: Int32?

    /// All in the order of their rank: where two speak, the last wins.
    func list() -> [(key: String, value: String?)] {
        var result = store.list()
        let valued: [(String, String?)] = [
            ("cache-dir", cacheDir), ("cache-size", cacheSize), ("ram-size", ramSize), ("metadata-ttl", metadataTTL),
            ("negative-ttl", negativeTTL), ("write-type", writeType), ("coordinator", coordinator),
            ("log-level", logLevel),
        ]
        for (key, value) in valued where value != nil { result.append((key, value)) }
        let flags = [("read-only", readOnly), ("allow-other", allowOther), ("foreground", foreground)]
        for (key, isSet) in flags where isSet { result.append((key, nil)) }
        return result
    }
}
