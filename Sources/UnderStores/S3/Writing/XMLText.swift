import Platform

/// Character data for the documents that requests carry (XML 1.0, 2.2 and 2.4).
enum XMLText {
    /// nil when XML 1.0 cannot hold the bytes: not UTF-8, or with a control character, U+FFFE or U+FFFF.
    static func escaped(_ text: ByteString) -> String? {
        guard let text = String(validating: text.bytes, as: UTF8.self) else { return nil }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            // As they stand, a parser would turn them into spaces or line feeds (XML 1.0, 2.11).
            case "\r": result += "&#13;"
            case "\n": result += "&#10;"
            case "\t": result += "&#9;"
            case _ where scalar.value < 0x20 || scalar.value == 0xFFFE || scalar.value == 0xFFFF: return nil
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}

/// The elements directly below the root of a small answer, by name; the last of a name counts.
struct S3AnswerDocument: Sendable {
    var root = ""
    var fields: [String: String] = [:]

    /// nil when `body` is no XML document.
    init?(_ body: [UInt8]) {
        guard !body.isEmpty, let reader = try? XMLReader(Handler(), sizeLimit: 1 << 20) else { return nil }
        do {
            try body.withUnsafeBytes { try reader.feed($0) }
            try reader.finish()
        } catch { return nil }
        (root, fields) = (reader.handler.root, reader.handler.fields)
    }

    private struct Handler: XMLElementHandler {
        var root = ""
        var fields: [String: String] = [:]
        mutating func begin(_ name: String, depth: Int) { if depth == 1 { root = name } }
        mutating func end(_ name: String, depth: Int, text: [UInt8]) {
            if depth == 2 { fields[name] = String(decoding: text, as: UTF8.self) }
        }
    }
}
