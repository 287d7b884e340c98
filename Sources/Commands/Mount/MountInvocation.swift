import Glibc
import Platform

/// What `larder mount` was asked for: flags and `-o` options brought together, paths absolute.
package struct MountInvocation: Hashable, Sendable {
    package enum Source: Hashable, Sendable {
        case store(MountSource)
        /// A namespace file, by its absolute path.
        case namespaceFile(String)
    }

    package var source: Source
    package var mountPoint: String
    package var settings = StoreSettings()
    package var allowOther = false
    /// Mount over a directory that has entries.
    package var nonEmpty = false
    package var cacheDirectory: String?
    package var cacheSize: UInt64?
    package var ramSize: UInt64?
    /// The socket of a running coordinator; nil finds or starts the user's own.
    package var coordinator: String?
    package var foreground = false
    /// For the kernel: nosuid, noexec, ….
    package var kernelOptions: [String] = []
    package var logLevel = LogLevel.info

    /// Names of the options that are not about the store, as after `--` and `-o`.
    static let sessionOptions = [
        "allow-other", "nonempty", "cache-dir", "cache-size", "ram-size", "coordinator", "foreground", "log-level",
    ]

    /// - Parameters:
    ///   - source: as the user wrote it.
    ///   - options: of `-o`, then of the flags: where both speak, the last wins.
    ///   - directory: what relative paths are relative to.
    /// - Throws: `CommandFailure` (usage, noInput).
    package init(
        source: String, mountPoint: String, options: [(key: String, value: String?)],
        directory: String = FilePaths.workingDirectory()
    ) throws(CommandFailure) {
        guard !mountPoint.isEmpty else { throw CommandFailure(.usage, "the mount point is empty") }
        self.source = try Self.source(source, directory: directory)
        self.mountPoint = FilePaths.absolute(mountPoint, relativeTo: directory)
        for (key, value) in options { try set(key, value, directory: directory) }
        try checkSettings()
    }

    private static func source(_ text: String, directory: String) throws(CommandFailure) -> Source {
        // mount(8) without a helper of ours passes the type and the source as one word.
        let word = text.hasPrefix("larder#") ? String(text.dropFirst("larder#".count)) : text
        let source: MountSource
        do throws(CommandFailure) { source = try MountSource(word, relativeTo: directory) } catch {
            throw CommandFailure(code: error.code, message: "source: \(error.message)")
        }
        guard case .local(let path) = source, !word.contains("://") else { return .store(source) }
        guard let status = try? FileStatus(of: path) else {
            throw CommandFailure(
                .noInput,
                "there is no \(path): SOURCE is s3://bucket/prefix, file:///dir, a directory, or a namespace file")
        }
        if status.isDirectory { return .store(source) }
        guard status.isRegularFile else {
            throw CommandFailure(.noInput, "\(path) is neither a directory nor a namespace file")
        }
        return .namespaceFile(path)
    }

    private mutating func set(_ key: String, _ value: String?, directory: String) throws(CommandFailure) {
        // fstab's own options are written with underscores.
        let name = key.replacing("_", with: "-")
        if name == "ro" || name == "rw" {
            return try named(key) { () throws(CommandFailure) in
                try settings.set(.readOnly, name == "ro" ? "true" : "false", relativeTo: directory)
            }
        }
        if let setting = StoreSetting(optionName: name) {
            guard let text = value ?? (setting.isFlag ? "true" : nil) else {
                throw CommandFailure(.usage, "option \(key) needs a value: \(key)=…")
            }
            return try named(key) { () throws(CommandFailure) in
                try settings.set(setting, text, relativeTo: directory)
            }
        }
        guard Self.sessionOptions.contains(name) else {
            if OptionList.isKernelOption(key) {
                kernelOptions.append(OptionList.text([(key, value)]))
                return
            }
            if OptionList.isNoise(key) { return }
            let known = Self.sessionOptions + StoreSetting.allCases.map(\.optionName)
            throw CommandFailure(.usage, "unknown mount option \(key): \(Suggestion.hint(for: name, among: known))")
        }
        switch name {
        case "allow-other", "nonempty", "foreground":
            guard value == nil || value == "true" else {
                throw CommandFailure(.usage, "option \(key) takes no value")
            }
            if name == "allow-other" { allowOther = true }
            if name == "nonempty" { nonEmpty = true }
            if name == "foreground" { foreground = true }
            return
        default: break
        }
        guard let value, !value.isEmpty else { throw CommandFailure(.usage, "option \(key) needs a value: \(key)=…") }
        try named(key) { () throws(CommandFailure) in try setSession(name, value, directory: directory) }
    }

    private mutating func setSession(_ name: String, _ value: String, directory: String) throws(CommandFailure) {
        switch name {
        case "cache-dir": cacheDirectory = FilePaths.absolute(value, relativeTo: directory)
        case "cache-size":
            cacheSize = try ByteSize.parse(value)
            guard cacheSize != 0 else { throw CommandFailure(.usage, "is 0: a cache must hold something") }
        case "ram-size": ramSize = try ByteSize.parse(value)
        case "coordinator": coordinator = FilePaths.absolute(value, relativeTo: directory)
        default: logLevel = try LogLevel(parsing: value)
        }
    }

    private func named(_ key: String, _ body: () throws(CommandFailure) -> Void) throws(CommandFailure) {
        do throws(CommandFailure) { try body() } catch {
            throw CommandFailure(code: error.code, message: "option \(key): \(error.message)")
        }
    }

    private func checkSettings() throws(CommandFailure) {
        switch source {
        case .store(let source):
            if let (setting, why) = settings.contradiction(for: source) {
                throw CommandFailure(.usage, "option \(setting.optionName): \(why)")
            }
        case .namespaceFile(let path):
            let given = StoreSetting.allCases.first { settings[$0] != nil && $0 != .readOnly }
            if let given {
                throw CommandFailure(
                    .usage,
                    "option \(given.optionName): belongs to one mount point: write \(given.rawValue) into \(path)")
            }
        }
    }

    /// Reads the namespace file, or makes a namespace of the one source.
    package func namespace() throws(CommandFailure) -> NamespaceSpecification {
        switch source {
        case .store(let source):
            NamespaceSpecification(mounts: [MountEntry(path: "/", source: source, settings: settings)])
        case .namespaceFile(let path): try NamespaceFile.read(path)
        }
    }

    /// Where the mount's coordinator listens, or will.
    func coordinatorSocket(_ environment: [String: String]) -> String {
        coordinator ?? SocketLocation.preferred(environment: environment, uid: geteuid())
    }

    /// What the mount shows, for people.
    package var sourceText: String {
        switch source {
        case .store(let source): source.description
        case .namespaceFile(let path): path
        }
    }

    /// Arguments that say the same to another process, whatever its working directory.
    package func arguments() -> [String] {
        var options: [(key: String, value: String?)] = StoreSetting.allCases.compactMap { setting in
            settings[setting].map { (setting.optionName, $0) }
        }
        if allowOther { options.append(("allow-other", nil)) }
        if nonEmpty { options.append(("nonempty", nil)) }
        if let cacheDirectory { options.append(("cache-dir", cacheDirectory)) }
        if let cacheSize { options.append(("cache-size", ByteSize.formatExactly(cacheSize))) }
        if let ramSize { options.append(("ram-size", ByteSize.formatExactly(ramSize))) }
        if let coordinator { options.append(("coordinator", coordinator)) }
        options.append(("log-level", logLevel.description))
        if foreground { options.append(("foreground", nil)) }
        let text = ([OptionList.text(options)] + kernelOptions).joined(separator: ",")
        return ["mount", sourceText, mountPoint, "-o", text]
    }
}
