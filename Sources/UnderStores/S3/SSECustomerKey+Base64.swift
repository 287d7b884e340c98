import Crypto

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

extension SSECustomerKey {
    /// Throws `.invalid` unless `base64` is the Base64 of 32 bytes (AES-256). The message never shows it.
    package init(base64 text: String) throws(StoreError) {
        guard let key = Data(base64Encoded: text), key.count == 32 else {
            throw StoreError(.invalid, "sseCustomerKey must be the Base64 of 32 bytes")
        }
        base64 = text
        md5 = Data(Insecure.MD5.hash(data: key)).base64EncodedString()
    }

    /// The headers of a HEAD or GET of an object encrypted so.
    var headers: [(name: String, value: String)] {
        [
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-server-side-encryption-customer-key", base64),
            ("x-amz-server-side-encryption-customer-key-MD5", md5),
        ]
    }
}
