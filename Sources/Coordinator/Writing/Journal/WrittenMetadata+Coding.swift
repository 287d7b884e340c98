import Platform
import UnderStores

extension RecordWriter {
    mutating func text(_ value: [UInt8]) { counted(value) }

    mutating func string(_ value: String) { text(Array(value.utf8)) }

    mutating func metadata(_ value: WrittenMetadata) {
        optional(value.mode) { $0.integer($1) }
        optional(value.uid) { $0.integer($1) }
        optional(value.gid) { $0.integer($1) }
        optional(value.modified) { $0.time($1) }
        optional(value.accessed) { $0.time($1) }
        optional(value.changed) { $0.time($1) }
        optional(value.contentType) { $0.string($1) }
        integer(UInt32(value.extendedAttributes.count))
        for (name, content) in value.extendedAttributes.sorted(by: { $0.key < $1.key }) {
            text(name.bytes)
            text(content.bytes)
        }
        integer(UInt32(value.preserved.count))
        for (name, content) in value.preserved.sorted(by: { $0.key < $1.key }) {
            string(name)
            string(content)
        }
    }

    mutating func condition(_ value: WriteCondition) {
        switch value {
        case .none: integer(0 as UInt8)
        case .absent: integer(1 as UInt8)
        case .version(let version):
            integer(2 as UInt8)
            text(version.bytes.bytes)
        }
    }
}

extension RecordReader {
    // Anything longer is damage.
    mutating func text() -> [UInt8]? { counted(limit: 1 << 20) }

    mutating func string() -> String? { text().flatMap { String(validating: $0, as: UTF8.self) } }

    mutating func metadata() -> WrittenMetadata? {
        var value = WrittenMetadata()
        guard let mode = optional({ $0.integer(UInt32.self) }), let uid = optional({ $0.integer(UInt32.self) }),
            let gid = optional({ $0.integer(UInt32.self) }), let modified = optional({ $0.time() }),
            let accessed = optional({ $0.time() }), let changed = optional({ $0.time() }),
            let contentType = optional({ $0.string() }), let attributes = integer(UInt32.self)
        else { return nil }
        (value.mode, value.uid, value.gid) = (mode, uid, gid)
        (value.modified, value.accessed, value.changed) = (modified, accessed, changed)
        value.contentType = contentType
        for _ in 0..<attributes {
            guard let name = text(), let content = text() else { return nil }
            value.extendedAttributes[ByteString(name)] = ByteString(content)
        }
        guard let preserved = integer(UInt32.self) else { return nil }
        for _ in 0..<preserved {
            guard let name = string(), let content = string() else { return nil }
            value.preserved[name] = content
        }
        return value
    }

    mutating func condition() -> WriteCondition? {
        switch integer(UInt8.self) {
        case 0: WriteCondition.none
        case 1: .absent
        case 2: text().map { .version(ObjectVersion(ByteString($0))) }
        default: nil
        }
    }
}
