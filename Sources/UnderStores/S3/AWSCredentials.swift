import Platform

/// An AWS access key, permanent or temporary. Printing it never shows a secret.
package struct AWSCredentials: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    package let accessKeyID: String
    package let secretAccessKey: String
    /// Of temporary credentials (STS).
    package let sessionToken: String?
    /// When the store will stop accepting them; nil for never.
    package let expiry: FileTime?
    /// Where they came from, for people: `environment`, `profile "lake" of ~/.aws/credentials`, … Never a secret.
    package let source: String

    package init(
        accessKeyID: String, secretAccessKey: String, sessionToken: String? = nil, expiry: FileTime? = nil,
        source: String
    ) {
        self.accessKeyID = accessKeyID
        self.secretAccessKey = secretAccessKey
        self.sessionToken = sessionToken
        self.expiry = expiry
        self.source = source
    }

    package var description: String { "credentials from \(source)" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: ["source": source]) }
}

/// Gives the credentials that requests are signed with. Every call may be made from any task, many at once.
package protocol AWSCredentialsProvider: Sendable {
    /// The current credentials, fetched or refreshed when needed (one refresh in flight for all callers); nil means
    /// that requests are sent unsigned. Throws `.accessDenied` when none can be had, `.unavailable` when their source
    /// does not answer.
    func credentials() async throws(StoreError) -> AWSCredentials?

    /// The store refused `rejected` as expired or unknown: unless newer ones are at hand already, the next call of
    /// `credentials()` fetches them anew.
    func invalidate(_ rejected: AWSCredentials) async
}
