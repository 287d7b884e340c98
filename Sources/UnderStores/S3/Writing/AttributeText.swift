import Platform

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// User xattrs as s3fs stores them: `{"user.name":"Base64",…}`, URL-encoded (s3fs-fuse, `build_xattrs`).
enum AttributeText {
    private static let namespace = "user."

    /// - Parameter name: of the object, for messages.
    static func encode(_ attributes: [ByteString: ByteString], name: String) throws(StoreError) -> String {
        let fields = try attributes.sorted { $0.key < $1.key }.map { field throws(StoreError) in
            guard let key = String(validating: field.key.bytes, as: UTF8.self) else {
                throw StoreError(.invalid, "an extended attribute of \(name) is not named in UTF-8")
            }
            return "\"\(namespace)\(escaped(key))\":\"\(Data(field.value.bytes).base64EncodedString())\""
        }
        return PercentEncoding.encode("{\(fields.joined(separator: ","))}".utf8, keepsSlashes: false)
    }

    /// Those of the user; nothing when the text is not of that form.
    static func decode(_ text: String) -> [ByteString: ByteString] {
        guard let bytes = PercentEncoding.decode(text.utf8),
            let fields = try? JSONDecoder().decode([String: String].self, from: Data(bytes))
        else { return [:] }
        var attributes: [ByteString: ByteString] = [:]
        for (key, value) in fields where key.utf8.starts(with: namespace.utf8) {
            guard let value = Data(base64Encoded: value) else { continue }
            attributes[ByteString(key.utf8.dropFirst(namespace.utf8.count))] = ByteString(value)
        }
        return attributes
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
