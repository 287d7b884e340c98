import Platform

/// URI encoding as SigV4 defines it ("Create a canonical request", AWS General Reference): everything but
/// `A-Z a-z 0-9 - . _ ~` becomes `%XX` with upper-case digits.
package enum PercentEncoding {
    private static let digits = Array("0123456789ABCDEF".utf8)

    /// - Parameter keepsSlashes: true for a path, whose slashes stay; false for a query.
    package static func encode(_ bytes: some Sequence<UInt8>, keepsSlashes: Bool) -> String {
        var result: [UInt8] = []
        for byte in bytes {
            if isUnreserved(byte) || (keepsSlashes && byte == UInt8(ascii: "/")) {
                result.append(byte)
            } else {
                result.append(UInt8(ascii: "%"))
                result.append(digits[Int(byte >> 4)])
                result.append(digits[Int(byte & 15)])
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// Decodes a form-encoded value, as `encoding-type=url` listings use it: `+` is a space. nil when a `%` is not
    /// followed by two hexadecimal digits.
    package static func decodeForm(_ bytes: some Collection<UInt8>) -> [UInt8]? { decode(bytes, plus: " ") }

    /// Decodes `%XX` alone.
    package static func decode(_ bytes: some Collection<UInt8>) -> [UInt8]? { decode(bytes, plus: "+") }

    private static func decode(_ bytes: some Collection<UInt8>, plus: Unicode.Scalar) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var rest = bytes.makeIterator()
        while let byte = rest.next() {
            switch byte {
            case UInt8(ascii: "+"): result.append(UInt8(ascii: plus))
            case UInt8(ascii: "%"):
                guard let high = rest.next().flatMap(Self.value(ofDigit:)),
                    let low = rest.next().flatMap(Self.value(ofDigit:))
                else { return nil }
                result.append(high << 4 | low)
            default: result.append(byte)
            }
        }
        return result
    }

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            true
        default: false
        }
    }

    private static func value(ofDigit byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
