import FoundationEssentials
import Platform

extension ByteString {
    /// For a `bytes` field of a message.
    package var data: Data { Data(bytes) }
}
