import Glibc
import Logging
import Platform

/// Log lines as one line of text each: `2026-11-22T18:00:00.123Z info message key=value`.
package struct LineLogHandler: LogHandler {
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    private let write: @Sendable (String) -> Void
    private let now: @Sendable () -> FileTime

    /// - Parameters:
    ///   - write: gets whole lines, from any thread.
    ///   - now: the time of a line; given by tests.
    package init(
        level: Logger.Level, write: @escaping @Sendable (String) -> Void = Output.standard().note,
        now: @escaping @Sendable () -> FileTime = { FileTime.now() }
    ) {
        logLevel = level
        self.write = write
        self.now = now
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var line =
            "\(Timestamp.utc(now(), fraction: true)) \(event.level.rawValue) \(Self.oneLine(event.message.description))"
        let all = event.metadata.map { metadata.merging($0) { $1 } } ?? metadata
        for (key, value) in all.sorted(by: { $0.key < $1.key }) { line += " \(key)=\(Self.quoted(value.description))" }
        write(line + "\n")
    }

    private static func oneLine(_ text: String) -> String {
        text.utf8.contains { $0 < 0x20 } ? PrintableName.of(text) : text
    }

    private static func quoted(_ text: String) -> String {
        let safe = oneLine(text)
        guard safe.isEmpty || safe.contains(where: { $0 == " " || $0 == "\"" || $0 == "=" }) else { return safe }
        return "\"\(safe.replacing("\"", with: "\\\""))\""
    }

    /// Sends what the libraries log through this process's swift-log to standard error. Once, before the first logger.
    package static func install(level: LogLevel) {
        LoggingSystem.bootstrap { _ in LineLogHandler(level: level.level) }
    }
}

/// Points in time as text, without a locale.
package enum Timestamp {
    /// RFC 3339 in UTC.
    package static func utc(_ time: FileTime, fraction: Bool = false) -> String {
        var parts = tm()
        var seconds = time_t(time.seconds)
        gmtime_r(&seconds, &parts)
        let date = "\(parts.tm_year + 1900)-\(pad(Int(parts.tm_mon) + 1))-\(pad(Int(parts.tm_mday)))"
        let clock = "\(pad(Int(parts.tm_hour))):\(pad(Int(parts.tm_min))):\(pad(Int(parts.tm_sec)))"
        guard fraction else { return "\(date)T\(clock)Z" }
        let milliseconds = Int(time.nanoseconds / 1_000_000)
        return "\(date)T\(clock).\(milliseconds < 100 ? "0" : "")\(pad(milliseconds))Z"
    }

    /// "2026-11-22 18:00" in the local time zone, as ls(1) shows it.
    package static func local(_ time: FileTime) -> String {
        var parts = tm()
        var seconds = time_t(time.seconds)
        localtime_r(&seconds, &parts)
        let date = "\(parts.tm_year + 1900)-\(pad(Int(parts.tm_mon) + 1))-\(pad(Int(parts.tm_mday)))"
        return "\(date) \(pad(Int(parts.tm_hour))):\(pad(Int(parts.tm_min)))"
    }

    private static func pad(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
}
