/// The answer to an `HTTPRequest`: the final one, never a 1xx.
package struct HTTPResponse: Sendable {
    package var status: Int
    package var headers: HTTPHeaders
    /// The collected body; empty when it was streamed.
    package var body: [UInt8]

    package init(status: Int, headers: HTTPHeaders = HTTPHeaders(), body: [UInt8] = []) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    package var isSuccess: Bool { (200..<300).contains(status) }
}

/// The header fields of an answer in their order of arrival, found by name without regard to ASCII case (RFC 9110,
/// 5.1).
package struct HTTPHeaders: Sendable {
    package private(set) var fields: [(name: String, value: String)]

    package init(_ fields: [(name: String, value: String)] = []) { self.fields = fields }

    /// The first field of that name; nil when there is none.
    package subscript(_ name: String) -> String? {
        for field in fields where Self.isEqual(field.name, name) { return field.value }
        return nil
    }

    /// - Parameters:
    ///   - name: without the colon.
    ///   - value: without surrounding white space.
    package mutating func append(_ name: String, _ value: String) { fields.append((name, value)) }

    static func isEqual(_ left: String, _ right: String) -> Bool {
        left.utf8.count == right.utf8.count
            && zip(left.utf8, right.utf8).allSatisfy { lowercased($0) == lowercased($1) }
    }

    private static func lowercased(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }
}
