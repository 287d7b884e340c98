/// A length of time as people write and read it.
package enum TimeSpan {
    private static let units: [String: Double] = [
        "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000,
    ]

    /// Reads "60s", "5m", "500ms", "1h30m", "0", or a plain number of seconds, as milliseconds.
    /// - Throws: `CommandFailure` (usage) when the text is no duration or longer than 49 days, which the wire cannot carry.
    package static func parse(_ text: String) throws(CommandFailure) -> UInt32 {
        let failure = CommandFailure(.usage, "\"\(text)\" is not a duration: write for instance 60s, 5m, 500ms or 0")
        var rest = text.trimmingSpaces()[...]
        guard !rest.isEmpty else { throw failure }
        var milliseconds = 0.0
        repeat {
            let digits = rest.prefix { $0.isASCII && $0.isNumber || $0 == "." }
            rest.removeFirst(digits.count)
            let unit = rest.prefix { $0.isLetter }
            rest.removeFirst(unit.count)
            let isWholeText = milliseconds == 0 && rest.isEmpty
            guard let number = Double(digits), let factor = units[unit.isEmpty && isWholeText ? "s" : unit.lowercased()]
            else { throw failure }
            milliseconds += number * factor
        } while !rest.isEmpty
        guard milliseconds <= Double(UInt32.max) else {
            throw CommandFailure(.usage, "\"\(text)\" is too long: at most 49 days")
        }
        return UInt32(milliseconds.rounded())
    }

    /// "850 ms", "12 s", "3 min 05 s", "2 h 07 min", "3 d 04 h".
    package static func format(seconds: Double) -> String {
        guard seconds.isFinite, seconds < 1e12 else { return "?" }
        if seconds < 1 { return "\(Int(seconds * 1000)) ms" }
        let whole = Int(seconds.rounded())
        if whole < 60 { return "\(whole) s" }
        if whole < 3600 { return "\(whole / 60) min \(padded(whole % 60)) s" }
        if whole < 86_400 { return "\(whole / 3600) h \(padded(whole / 60 % 60)) min" }
        return "\(whole / 86_400) d \(padded(whole / 3600 % 24)) h"
    }

    private static func padded(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

    /// What `parse` reads back as the same time.
    package static func formatExactly(milliseconds: UInt32) -> String {
        milliseconds % 1000 == 0 ? "\(milliseconds / 1000)s" : "\(milliseconds)ms"
    }
}
