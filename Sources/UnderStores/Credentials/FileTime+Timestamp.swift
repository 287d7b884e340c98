import Platform

extension FileTime {
    /// An RFC 3339 time as AWS services and `credential_process` programs write it: `2026-11-22T18:05:00Z`, with or
    /// without a fraction of a second (dropped), with `Z` or an offset such as `+00:00`. nil for anything else.
    init?(timestamp text: String) {
        var local = Substring(text)
        var offset: Int64 = 0
        if let sign = text.lastIndex(where: { "+-".contains($0) }), text[..<sign].contains("T") {
            let digits = text[sign...].dropFirst().filter { $0 != ":" }
            guard digits.utf8.count == 4, let number = Int64(digits), number >= 0, number % 100 < 60 else { return nil }
            offset = (number / 100 * 3600 + number % 100 * 60) * (text[sign] == "-" ? -1 : 1)
            local = text[..<sign] + "Z"
        }
        guard let time = CivilTime(iso8601: String(local)) else { return nil }
        self.init(seconds: time.fileTime.seconds - offset)
    }
}
