import Glibc
import Platform
import SystemPackage
import Yams

/// A place in a YAML file: knows the file, the line and the field for every error about it.
struct YAMLField {
    private static let longestFile: UInt64 = 1 << 20

    let file: String
    /// "mounts[1].source"; empty for the document.
    let name: String
    private let node: Node

    /// Reads and parses a file.
    /// - Throws: `CommandFailure`: noInput when it cannot be read, configuration when it is not one YAML document.
    static func document(ofFile path: String) throws(CommandFailure) -> YAMLField {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(longestFile), alignment: 1)
        defer { buffer.deallocate() }
        let count: Int
        do throws(Errno) {
            let file = try Descriptor.open(path, O_RDONLY)
            let status = try file.status()
            guard !status.isDirectory else { throw Errno.isDirectory }
            guard status.size <= longestFile else { throw Errno.fileTooLarge }
            count = try file.read(into: buffer, at: 0)
        } catch { throw CommandFailure(.noInput, "cannot read \(path): \(error)") }
        guard let text = String(validating: buffer.prefix(count), as: UTF8.self) else {
            throw CommandFailure(.configuration, "\(path): is not UTF-8 text")
        }
        return try document(text, file: path)
    }

    static func document(_ text: String, file: String) throws(CommandFailure) -> YAMLField {
        do {
            guard let root = try Yams.compose(yaml: text) else {
                throw CommandFailure(.configuration, "\(file): is empty")
            }
            return YAMLField(file: file, name: "", node: root)
        } catch let failure as CommandFailure { throw failure } catch {
            throw CommandFailure(.configuration, describe(error, file: file))
        }
    }

    private static func describe(_ error: any Error, file: String) -> String {
        switch error as? YamlError {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            "\(file):\(mark.line): is not valid YAML (column \(mark.column)): \(problem)"
        case .duplicatedKeysInMapping(let keys, let context):
            "\(file):\(context.mark.line): the key \"\(keys.first ?? "?")\" is given twice in one mapping"
        default: "\(file): is not valid YAML"
        }
    }

    /// One line that names file, line and field. The text of a `usage` failure ("is empty: …") goes after the name.
    func failure(_ what: String) -> CommandFailure { Self.failure(what, file: file, line: node.mark?.line, name: name) }

    private static func failure(_ what: String, file: String, line: Int?, name: String) -> CommandFailure {
        let place = line.map { "\(file):\($0)" } ?? file
        return CommandFailure(.configuration, name.isEmpty ? "\(place): \(what)" : "\(place): \(name): \(what)")
    }

    /// Runs a check that does not know of files, and puts the place before what it throws.
    func checked<Result>(_ body: () throws(CommandFailure) -> Result) throws(CommandFailure) -> Result {
        do throws(CommandFailure) { return try body() } catch { throw failure(error.message) }
    }

    /// The fields of a mapping.
    /// - Throws: for anything but a mapping, and for a key that is not among `allowed`, with the closest that is.
    func mapping(allowed: [String]) throws(CommandFailure) -> [String: YAMLField] {
        guard case .mapping(let mapping) = node else { throw failure("expects a mapping (key: value), not \(kind)") }
        var fields: [String: YAMLField] = [:]
        for (key, value) in mapping {
            guard let word = key.scalar?.string else { throw failure("has a key that is not text") }
            let child = name.isEmpty ? word : "\(name).\(word)"
            guard allowed.contains(word) else {
                throw Self.failure(
                    "is not known here; \(Suggestion.hint(for: word, among: allowed))", file: file,
                    line: key.mark?.line, name: child)
            }
            fields[word] = YAMLField(file: file, name: child, node: value)
        }
        return fields
    }

    func sequence() throws(CommandFailure) -> [YAMLField] {
        guard case .sequence(let sequence) = node else {
            throw failure("expects a list (lines that start with \"- \"), not \(kind)")
        }
        return sequence.enumerated().map { YAMLField(file: file, name: "\(name)[\($0.offset)]", node: $0.element) }
    }

    /// The text of a scalar, as it is written: 0644 stays 0644.
    func text(expecting what: String) throws(CommandFailure) -> String {
        guard case .scalar(let scalar) = node else { throw failure("expects \(what), not \(kind)") }
        guard !isNull else { throw failure("is empty: expects \(what)") }
        return scalar.string
    }

    var isNull: Bool { node.tag == Tag(.null) }

    private var kind: String {
        switch node {
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .scalar(let scalar): isNull ? "nothing" : "\"\(scalar.string.prefix(40))\""
        case .alias: "an alias"
        }
    }
}
