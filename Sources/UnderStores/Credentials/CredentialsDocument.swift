import FoundationEssentials
import Platform

/// The JSON that metadata services, container endpoints and `credential_process` programs answer with. Their field
/// names differ a little.
struct CredentialsDocument: Decodable {
    private enum CodingKeys: String, CodingKey {
        case accessKeyID = "AccessKeyId"
        case secretAccessKey = "SecretAccessKey"
        case token = "Token"
        case sessionToken = "SessionToken"
        case expiration = "Expiration"
        case version = "Version"
        case code = "Code"
    }

    private let accessKeyID, secretAccessKey, token, sessionToken, expiration: String?
    /// Of `credential_process`: 1.
    let version: Int?
    /// Of instance metadata: "Success", or what is wrong.
    private let code: String?

    /// - Parameter source: names the place in messages and in the credentials.
    /// - Throws: `.protocolViolation`, without any of the content: it could be a secret.
    init(_ bytes: [UInt8], from source: String) throws(StoreError) {
        do { self = try JSONDecoder().decode(Self.self, from: Data(bytes)) } catch {
            throw StoreError(.protocolViolation, "\(source) did not answer with credentials as JSON")
        }
    }

    func credentials(from source: String) throws(StoreError) -> AWSCredentials {
        if let code, code != "Success" {
            throw StoreError(.accessDenied, "\(source) has no credentials: \(code.prefix(80))")
        }
        guard let id = accessKeyID, let secret = secretAccessKey, !id.isEmpty, !secret.isEmpty else {
            throw StoreError(.protocolViolation, "\(source) answered without AccessKeyId or SecretAccessKey")
        }
        var expiry: FileTime?
        if let expiration, !expiration.isEmpty {
            expiry = FileTime(timestamp: expiration)
            guard expiry != nil else {
                throw StoreError(.protocolViolation, "\(source) answered with an Expiration that is not ISO 8601")
            }
        }
        return AWSCredentials(
            accessKeyID: id, secretAccessKey: secret, sessionToken: token ?? sessionToken, expiry: expiry,
            source: source)
    }
}
