/// A file in the dialect of `~/.aws/config`: sections, properties, comments, continued values and nested blocks.
///
/// Source: AWS SDKs and Tools Reference Guide, "Format of the config file". Pure; any thread.
package struct INIDocument: Hashable, Sendable {
    package struct Value: Hashable, Sendable {
        /// Continuation lines are joined with newlines.
        package var text: String
        /// The indented `key = value` lines under a property without a value of its own.
        package var nested: [String: String]
    }

    package struct Section: Hashable, Sendable {
        /// As between the brackets, white space collapsed and quotes taken off: `profile lake`, `default`.
        package var name: String
        /// By name in lower case; the last of a name counts.
        package var properties: [String: Value]

        package subscript(_ property: String) -> String? {
            guard let text = properties[property]?.text, !text.isEmpty else { return nil }
            return text
        }
    }

    package struct Malformed: Error, Hashable, Sendable, CustomStringConvertible {
        /// From 1.
        package let line: Int
        package let problem: String
        package var description: String { "line \(line): \(problem)" }
    }

    /// In order of first appearance; sections of one name are one.
    package private(set) var sections: [Section] = []

    package subscript(section name: String) -> Section? { sections.first { $0.name == name } }

    /// - Parameter openingSection: the name of the section that properties before any header belong to; nil makes them
    ///   an error. No value is ever part of an error: it could be a secret.
    package init(_ bytes: some Sequence<UInt8>, openingSection: String? = nil) throws(Malformed) {
        var section = openingSection.map { index(of: $0) }
        var property: String?
        let mark: [UInt8] = [0xEF, 0xBB, 0xBF]  // a byte order mark that some editors write
        let all = Array(bytes)
        let lines = all.dropFirst(all.starts(with: mark) ? mark.count : 0)
            .split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (number, raw) in zip(1..., lines) {
            let isIndented = raw.first.map(Self.isBlank) ?? false
            let line = Self.trimmed(raw)
            if line.isEmpty || Self.startsComment(line[line.startIndex]) { continue }
            if line.first == UInt8(ascii: "[") {
                section = index(of: try Self.header(line, number))
                property = nil
            } else if isIndented, let section, let name = property {
                try extend(name, in: section, with: line, number)
            } else {
                guard let section else { throw Malformed(line: number, problem: "a setting before any [section]") }
                let (name, value) = try Self.setting(line, number)
                sections[section].properties[name] = Value(text: value, nested: [:])
                property = name
            }
        }
    }

    private mutating func index(of name: String) -> Int {
        if let index = sections.firstIndex(where: { $0.name == name }) { return index }
        sections.append(Section(name: name, properties: [:]))
        return sections.count - 1
    }

    /// An indented line continues a value, or is a setting nested under a name without one.
    private mutating func extend(
        _ name: String, in section: Int, with line: ArraySlice<UInt8>, _ number: Int
    ) throws(Malformed) {
        if sections[section].properties[name]?.text.isEmpty == true {
            let (inner, value) = try Self.setting(line, number)
            sections[section].properties[name]?.nested[inner] = value
        } else {
            sections[section].properties[name]?.text += "\n" + String(decoding: line, as: UTF8.self)
        }
    }

    private static func header(_ line: ArraySlice<UInt8>, _ number: Int) throws(Malformed) -> String {
        guard let end = line.firstIndex(of: UInt8(ascii: "]")) else {
            throw Malformed(line: number, problem: "a section header without its closing bracket")
        }
        let rest = trimmed(line[line.index(after: end)...])
        guard rest.first.map(startsComment) ?? true else {
            throw Malformed(line: number, problem: "text after a section header")
        }
        let words = line[line.startIndex..<end].dropFirst().split(whereSeparator: isBlank)
            .map { $0.filter { $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "'") } }
        guard !words.isEmpty else { throw Malformed(line: number, problem: "a section without a name") }
        return String(decoding: Array(words.joined(separator: [UInt8(ascii: " ")])), as: UTF8.self)
    }

    private static func setting(
        _ line: ArraySlice<UInt8>, _ number: Int
    ) throws(Malformed) -> (name: String, value: String) {
        guard let equals = line.firstIndex(of: UInt8(ascii: "=")) else {
            throw Malformed(line: number, problem: "neither a [section] nor a setting of the form name = value")
        }
        let name = trimmed(line[..<equals])
        guard !name.isEmpty else { throw Malformed(line: number, problem: "a setting without a name") }
        let value = trimmed(withoutComment(line[line.index(after: equals)...]))
        return (String(decoding: name, as: UTF8.self).lowercased(), String(decoding: value, as: UTF8.self))
    }

    /// A comment within a line needs white space before it: secrets contain neither.
    private static func withoutComment(_ value: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        for index in value.indices.dropFirst() where startsComment(value[index]) && isBlank(value[index - 1]) {
            return value[..<index]
        }
        return value
    }

    private static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let start = line.drop(while: isBlank)
        guard let last = start.lastIndex(where: { !isBlank($0) }) else { return [] }
        return start[...last]
    }

    private static func isBlank(_ byte: UInt8) -> Bool { [0x20, 0x09, 0x0D].contains(byte) }
    private static func startsComment(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "#") || byte == UInt8(ascii: ";") }
}
