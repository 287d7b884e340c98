import BlockMaps
import Crypto
import Platform

/// One version of one object of one store: what a cache file holds, and all that names it.
package struct CachedObjectID: Hashable, Sendable, CustomStringConvertible {
    /// The store's identity: objects of equal identity, key and version have equal bytes.
    package let store: String
    package let key: ByteString
    package let version: ByteString
    /// Bytes.
    package let size: UInt64

    package init(store: String, key: ByteString, version: ByteString, size: UInt64) {
        self.store = store
        self.key = key
        self.version = version
        self.size = size
    }

    /// The first 16 bytes of SHA-256 over the size and the three names, each behind its length, so that no two
    /// different identities have one encoding.
    package var digest: ObjectDigest {
        var hash = SHA256()
        for part in [Array(store.utf8), key.bytes, version.bytes] {
            withUnsafeBytes(of: UInt64(part.count).littleEndian) { hash.update(bufferPointer: $0) }
            hash.update(data: part)
        }
        withUnsafeBytes(of: size.littleEndian) { hash.update(bufferPointer: $0) }
        return hash.finalize().withUnsafeBytes { bytes in
            ObjectDigest(
                high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        }
    }

    package var description: String { "\(store) \(key) version \(version)" }
}
