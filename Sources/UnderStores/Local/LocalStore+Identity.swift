import Platform

extension LocalStore {
    /// The version's device and inode: a file written in place keeps them, a file replaced by rename does not.
    package func fileIdentity(of version: ObjectVersion) -> ByteString {
        let colon = UInt8(ascii: ":")
        return ByteString(
            version.bytes.bytes.split(separator: colon, maxSplits: 2).prefix(2).joined(separator: [colon]))
    }
}
