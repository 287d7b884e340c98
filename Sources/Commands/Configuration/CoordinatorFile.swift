import Platform

/// What `larder coordinator` is told, by a file or by the mount that starts it (docs/configuration.md).
package struct CoordinatorSettings: Hashable, Sendable {
    package struct Tier: Hashable, Sendable {
        package enum Kind: String, CaseIterable, Hashable, Sendable { case ram, disk }
        package var kind: Kind
        package var path: String
        /// Bytes that the cache may fill.
        package var size: UInt64
        /// Bytes that stay free on the file system; nil for 1 GiB, or a twentieth of a file system that is small.
        package var reserve: UInt64?

        package init(kind: Kind, path: String, size: UInt64, reserve: UInt64? = nil) {
            self.kind = kind
            self.path = path
            self.size = size
            self.reserve = reserve
        }
    }

    package var socket: String
    package var stateDirectory: String
    package var blockSize: Int
    package var tiers: [Tier]
    /// Where metrics and health are served; nil for nowhere.
    package var http: ListenAddress?
    package var logLevel: LogLevel
}

/// `host:port` of a server of ours.
package struct ListenAddress: Hashable, Sendable, CustomStringConvertible {
    package let host: String
    package let port: Int

    /// - Throws: `CommandFailure` (usage).
    package init(_ text: String) throws(CommandFailure) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            throw CommandFailure(.usage, "\"\(text)\" is not host:port: write for instance 127.0.0.1:9809")
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        self.host = host.isEmpty ? "0.0.0.0" : host
        self.port = Int(port)
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// Reads the coordinator's file.
package enum CoordinatorFile {
    package static let defaultBlockSize = 128 << 10
    /// What the block map can describe.
    static let blockSizes = (4 << 10)...(1 << 20)

    /// - Throws: `CommandFailure`: noInput when the file cannot be read, configuration with line and field otherwise.
    package static func read(_ path: String) throws(CommandFailure) -> CoordinatorSettings {
        try settings(YAMLField.document(ofFile: path))
    }

    package static func parse(_ text: String, file: String) throws(CommandFailure) -> CoordinatorSettings {
        try settings(YAMLField.document(text, file: file))
    }

    private static func settings(_ document: YAMLField) throws(CommandFailure) -> CoordinatorSettings {
        let fields = try document.mapping(allowed: ["socket", "stateDirectory", "cache", "http", "logLevel"])
        guard let cache = fields["cache"] else {
            throw document.failure("has no cache: give it at least one tier (cache: {tiers: [...]})")
        }
        let cacheFields = try cache.mapping(allowed: ["blockSize", "tiers"])
        guard let tierList = cacheFields["tiers"] else {
            throw cache.failure(
                "has no tiers: list at least one, for instance {kind: disk, path: /var/cache/larder, size: 100GiB}")
        }
        var tiers: [CoordinatorSettings.Tier] = []
        for item in try tierList.sequence() {
            let (tier, place) = try tier(item)
            if tiers.contains(where: { $0.path == tier.path }) {
                throw place.failure("is the directory of another tier: each needs its own")
            }
            tiers.append(tier)
        }
        guard !tiers.isEmpty else { throw tierList.failure("is empty: list at least one tier") }
        return CoordinatorSettings(
            socket: try path(fields["socket"]) ?? SocketLocation.system,
            stateDirectory: try path(fields["stateDirectory"]) ?? "/var/lib/larder",
            blockSize: try blockSize(cacheFields["blockSize"]), tiers: tiers, http: try http(fields["http"]),
            logLevel: try logLevel(fields["logLevel"]))
    }

    private static func tier(_ item: YAMLField) throws(CommandFailure) -> (CoordinatorSettings.Tier, YAMLField) {
        let fields = try item.mapping(allowed: ["kind", "path", "size", "reserve"])
        guard let pathField = fields["path"], let path = try path(pathField) else {
            throw item.failure("has no path: name a directory that only this coordinator uses")
        }
        guard let size = try size(fields["size"]) else {
            throw item.failure("has no size: say how much it may hold, for instance size: 100GiB")
        }
        var kind = CoordinatorSettings.Tier.Kind.disk
        if let field = fields["kind"] {
            let text = try field.text(expecting: "ram or disk")
            guard let known = CoordinatorSettings.Tier.Kind(rawValue: text) else {
                throw field.failure("\"\(text)\" is not one of ram, disk")
            }
            kind = known
        }
        let reserve = try bytes(fields["reserve"])
        return (CoordinatorSettings.Tier(kind: kind, path: path, size: size, reserve: reserve), pathField)
    }

    private static func path(_ field: YAMLField?) throws(CommandFailure) -> String? {
        guard let field else { return nil }
        let text = try field.text(expecting: "an absolute path")
        guard text.hasPrefix("/"), !text.utf8.contains(0) else {
            throw field.failure("\"\(text)\" must be an absolute path")
        }
        return FilePaths.absolute(text, relativeTo: "/")
    }

    private static func size(_ field: YAMLField?) throws(CommandFailure) -> UInt64? {
        guard let field, let size = try bytes(field) else { return nil }
        guard size > 0 else { throw field.failure("is 0: a tier must hold something") }
        return size
    }

    private static func bytes(_ field: YAMLField?) throws(CommandFailure) -> UInt64? {
        guard let field else { return nil }
        let text = try field.text(expecting: "a size such as 100GiB")
        return try field.checked { () throws(CommandFailure) in try ByteSize.parse(text) }
    }

    private static func blockSize(_ field: YAMLField?) throws(CommandFailure) -> Int {
        guard let field, let size = try bytes(field) else { return defaultBlockSize }
        guard let size = Int(exactly: size), blockSizes.contains(size), size & (size - 1) == 0 else {
            throw field.failure("must be a power of two from 4KiB to 1MiB")
        }
        return size
    }

    private static func http(_ field: YAMLField?) throws(CommandFailure) -> ListenAddress? {
        guard let field else { return nil }
        guard let listen = try field.mapping(allowed: ["listen"])["listen"] else {
            throw field.failure("has no listen: write for instance {listen: \"127.0.0.1:9809\"}")
        }
        let text = try listen.text(expecting: "host:port")
        return try listen.checked { () throws(CommandFailure) in try ListenAddress(text) }
    }

    private static func logLevel(_ field: YAMLField?) throws(CommandFailure) -> LogLevel {
        guard let field else { return .info }
        let text = try field.text(expecting: "a level such as info")
        return try field.checked { () throws(CommandFailure) in try LogLevel(parsing: text) }
    }
}
