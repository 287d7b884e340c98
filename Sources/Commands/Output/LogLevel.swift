import Logging

/// How much is logged; the words of `--log-level`.
package struct LogLevel: Hashable, Sendable, CustomStringConvertible {
    package let level: Logger.Level

    package init(_ level: Logger.Level) { self.level = level }

    /// - Throws: `CommandFailure` (usage).
    package init(parsing text: String) throws(CommandFailure) {
        let word = text.lowercased() == "warn" ? "warning" : text.lowercased()
        guard let level = Logger.Level(rawValue: word) else {
            let all = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw CommandFailure(.usage, "\"\(text)\" is not a log level: use one of \(all)")
        }
        self.level = level
    }

    package static let info = LogLevel(.info)
    package var description: String { level.rawValue }
}
