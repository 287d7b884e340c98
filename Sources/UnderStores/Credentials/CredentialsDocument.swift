import FoundationEssentials
import Platform

/// The JSON that metadata services, container endpoints and `credential_process` programs answer with. Their field names
/// differ a little.
struct CredentialsDocument: Decodable {
    private let AccessKeyId: String?
    private let SecretAccessKey: String?
    private let Token: String?
    private let SessionToken: String?
    private let Expiration: String?
    /// Of `credential_process`: 1.
    let Version: Int?
    /// Of instance metadata: "Success", or what is wrong.
    private let Code: String?

    /// - Parameter source: names the place in messages and in the credentials.
    /// - Throws: `.protocolViolation`, without any of the content: it could be a secret.
    init(_ bytes: [UInt8], from source: String) throws(StoreError) {
        do { self = try JSONDecoder().decode(Self.self, from: Data(bytes)) } catch {
            throw StoreError(.protocolViolation, "\(source) did not answer with credentials as JSON")
        }
    }

    func credentials(from source: String) throws(StoreError) -> AWSCredentials {
        if let Code, Code != "Success" {
            throw StoreError(.accessDenied, "\(source) has no credentials: \(Code.prefix(80))")
        }
        guard let id = AccessKeyId, let secret = SecretAccessKey, !id.isEmpty, !secret.isEmpty else {
            throw StoreError(.protocolViolation, "\(source) answered without AccessKeyId or SecretAccessKey")
        }
        var expiry: FileTime?
        if let Expiration, !Expiration.isEmpty {
            expiry = FileTime(timestamp: Expiration)
            guard expiry != nil else {
                throw StoreError(.protocolViolation, "\(source) answered with an Expiration that is not ISO 8601")
            }
        }
        return AWSCredentials(
            accessKeyID: id, secretAccessKey: secret, sessionToken: Token ?? SessionToken, expiry: expiry,
            source: source)
    }
}
