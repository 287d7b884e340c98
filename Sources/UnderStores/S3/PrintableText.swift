extension StringProtocol {
    /// For a message of one line: control characters become U+FFFD, and only the first 300 characters stay. What a store
    /// sends, and what a key holds, may be anything.
    var printable: String {
        var result = String.UnicodeScalarView()
        for scalar in unicodeScalars.prefix(300) {
            let isControl = scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
            result.append(isControl || scalar.value == 0x2028 || scalar.value == 0x2029 ? "\u{FFFD}" : scalar)
        }
        return String(result)
    }
}
