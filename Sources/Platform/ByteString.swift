/// A file name, key, version or path as bytes, compared byte by byte.
///
/// Not `String`: Swift compares strings by canonical equivalence, so that two different keys could be equal, and a Linux
/// file name need not be UTF-8 at all. Bytewise order is also the order of S3 listings.
package struct ByteString: Hashable, Comparable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    package var bytes: [UInt8]

    package init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }
    package init(_ text: some StringProtocol) { bytes = Array(text.utf8) }
    package init(stringLiteral text: String) { bytes = Array(text.utf8) }
    /// Copies a NUL-terminated C string.
    package init(cString: UnsafePointer<CChar>) {
        var end = cString
        while end.pointee != 0 { end += 1 }
        bytes = Array(UnsafeRawBufferPointer(start: cString, count: end - cString))
    }

    package var isEmpty: Bool { bytes.isEmpty }
    package var count: Int { bytes.count }

    /// For people: invalid UTF-8 is shown as U+FFFD. Never turn it back into a key.
    package var description: String { String(decoding: bytes, as: UTF8.self) }

    package static func < (left: ByteString, right: ByteString) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }

    package static func + (left: ByteString, right: ByteString) -> ByteString { ByteString(left.bytes + right.bytes) }

    package func hasPrefix(_ prefix: ByteString) -> Bool { bytes.starts(with: prefix.bytes) }
    package func hasSuffix(_ suffix: ByteString) -> Bool { bytes.reversed().starts(with: suffix.bytes.reversed()) }

    /// `self/name`, or just `name` when `self` is empty (the root of a store has the empty path).
    package func appending(component name: ByteString) -> ByteString {
        isEmpty ? name : ByteString(bytes + [UInt8(ascii: "/")] + name.bytes)
    }

    /// The parts between slashes; empty parts are left out.
    package var components: [ByteString] { bytes.split(separator: UInt8(ascii: "/")).map { ByteString($0) } }

    /// Whether POSIX can name a directory entry so: 1…255 bytes, no slash, no NUL, neither "." nor "..".
    package var isNameable: Bool {
        (1...255).contains(bytes.count) && !bytes.contains(0) && !bytes.contains(UInt8(ascii: "/"))
            && self != "." && self != ".."
    }

    /// Calls `body` with a NUL-terminated copy, for system calls.
    package func withCString<Result, Failure: Error>(
        _ body: (UnsafePointer<CChar>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try (bytes + [0]).withUnsafeBufferPointer { buffer throws(Failure) in
            try body(UnsafeRawPointer(buffer.baseAddress!).assumingMemoryBound(to: CChar.self))
        }
    }
}
