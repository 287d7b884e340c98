import Platform

/// One place where AWS credentials may come from.
protocol AWSCredentialsSource: Sendable {
    /// For people: `environment`, `instance metadata`, ….
    var name: String { get }

    /// Asks the place anew.
    ///
    /// - Throws: when the place is configured but gives nothing: the search ends there, since credentials of another
    ///   place would be another identity's.
    func load() async throws(StoreError) -> AWSCredentialsFinding
}

enum AWSCredentialsFinding: Sendable {
    case found(AWSCredentials)
    /// Not configured, and why we think so.
    case absent(String)
}
