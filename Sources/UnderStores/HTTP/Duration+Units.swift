extension Duration {
    /// Whole milliseconds; negative durations are 0.
    var milliseconds: Int { Int(nanoseconds / 1_000_000) }

    /// Nanoseconds; negative durations are 0, and what does not fit is the largest value.
    package var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max / 4 : min(product, .max / 4) + UInt64(attoseconds / 1_000_000_000)
    }
}

extension StringProtocol {
    /// Without the spaces and tabs at both ends.
    func trimmingBlanks() -> String {
        var rest = Substring(self).utf8
        while let first = rest.first, first == 32 || first == 9 { rest.removeFirst() }
        while let last = rest.last, last == 32 || last == 9 { rest.removeLast() }
        return String(decoding: rest, as: UTF8.self)
    }
}

extension HTTPError {
    static func cancelled(_ host: String) -> HTTPError { HTTPError(.cancelled, "the request to \(host) was cancelled") }
}
