/// Columns for a terminal: as wide as their longest cell, two spaces apart, without trailing spaces.
struct TextTable {
    enum Alignment { case left, right }

    private let alignments: [Alignment]
    private var rows: [[String]] = []

    /// - Parameter header: empty for a table without one.
    init(_ alignments: [Alignment], header: [String] = []) {
        self.alignments = alignments
        if !header.isEmpty { rows.append(header) }
    }

    mutating func add(_ cells: [String]) { rows.append(cells) }

    /// Ends with a newline, unless it is empty.
    func text(indent: Int = 0) -> String {
        let widths = alignments.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        var result = ""
        for row in rows {
            var line = String(repeating: " ", count: indent)
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                line += (column > 0 ? "  " : "") + (alignments[column] == .left ? cell + padding : padding + cell)
            }
            while line.last == " " { line.removeLast() }
            result += line + "\n"
        }
        return result
    }
}

/// Names from a file system made safe for a terminal: control characters are shown as \xNN, as ls(1) does.
enum PrintableName {
    static func of(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: isControl) else { return text }
        return text.unicodeScalars.reduce(into: "") { result, scalar in
            if isControl(scalar) {
                let hex = String(scalar.value, radix: 16)
                result += "\\x" + (hex.count < 2 ? "0" + hex : hex)
            } else {
                result.unicodeScalars.append(scalar)
            }
        }
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
    }
}
