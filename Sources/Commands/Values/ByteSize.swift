/// A number of bytes as people write and read it.
package enum ByteSize {
    private static let binaryUnits = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]

    /// Reads "100GiB", "1.5 GB", "64k" or a plain number of bytes.
    ///
    /// KiB, MiB, … and a single letter (k, M, as in dd and df) are powers of 1024; kB, MB, … are powers of 1000, as the
    /// makers of disks mean them. Case does not matter.
    /// - Throws: `CommandFailure` (usage) when the text is no size, negative, or does not fit into 63 bits.
    package static func parse(_ text: String) throws(CommandFailure) -> UInt64 {
        let trimmed = text.trimmingSpaces()
        let digits = trimmed.prefix { $0.isASCII && $0.isNumber || $0 == "." }
        let unit = trimmed.dropFirst(digits.count).trimmingSpaces().lowercased()
        guard let number = Double(digits), number.isFinite, let factor = factor(of: unit) else {
            throw CommandFailure(.usage, "\"\(text)\" is not a size: write for instance 100GiB, 1.5GB, 64k or 4096")
        }
        // A whole number is not sent through a Double, which would round beyond 2^53.
        if let whole = UInt64(digits) {
            let (bytes, overflows) = whole.multipliedReportingOverflow(by: factor)
            if !overflows, bytes <= UInt64(Int64.max) { return bytes }
        } else if number * Double(factor) < 0x1p63 {
            return UInt64((number * Double(factor)).rounded())
        }
        throw CommandFailure(.usage, "\"\(text)\" is too large: at most 8EiB less one byte")
    }

    private static func factor(of unit: String) -> UInt64? {
        if unit.isEmpty || unit == "b" { return 1 }
        guard let letter = unit.first, let power = "kmgtpe".firstIndex(of: letter) else { return nil }
        let exponent = "kmgtpe".distance(from: "kmgtpe".startIndex, to: power) + 1
        let base: UInt64
        switch unit.dropFirst() {
        case "", "ib": base = 1024
        case "b": base = 1000
        default: return nil
        }
        return (0..<exponent).reduce(1) { product, _ in product * base }
    }

    /// "0 B", "512 B", "1.5 GiB": at most one decimal, none from 100 on.
    package static func format(_ bytes: UInt64) -> String {
        guard bytes >= 1024 else { return "\(bytes) B" }
        var value = Double(bytes) / 1024
        var unit = 0
        // 1023.95 would be shown as "1024.0".
        while value >= 1023.95, unit < binaryUnits.count - 1 {
            value /= 1024
            unit += 1
        }
        return "\(Decimal1.format(value)) \(binaryUnits[unit])"
    }

    /// What `parse` reads back as the same number: "100GiB", "1536MiB", "1000".
    package static func formatExactly(_ bytes: UInt64) -> String {
        guard bytes > 0 else { return "0" }
        let unit = min(bytes.trailingZeroBitCount / 10, binaryUnits.count)
        return unit == 0 ? "\(bytes)" : "\(bytes >> UInt64(unit * 10))\(binaryUnits[unit - 1])"
    }
}

/// Numbers for tables: one decimal below 100, none from there on. (Formatting of `Double` is otherwise Foundation's.)
enum Decimal1 {
    static func format(_ value: Double) -> String {
        if value >= 99.95 { return "\(Int64(value.rounded()))" }
        let tenths = Int64((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}

extension StringProtocol {
    func trimmingSpaces() -> String {
        var slice = self[...]
        while slice.first?.isWhitespace == true { slice.removeFirst() }
        while slice.last?.isWhitespace == true { slice.removeLast() }
        return String(slice)
    }
}
