import SwiftProtobuf

extension WireAttributes {
    /// As the wire has them.
    package var encoded: [UInt8] { (try? serializedBytes()) ?? [] }

    /// What `encoded` gave; nothing at all for bytes that are none.
    package init(encoded bytes: UnsafeRawBufferPointer) { self = (try? Self(serializedBytes: Array(bytes))) ?? Self() }
}
