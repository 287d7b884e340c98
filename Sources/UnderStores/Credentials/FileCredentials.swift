/// A file that the user named: settings `aws_access_key_id`, `aws_secret_access_key` and `aws_session_token` (each also
/// without `aws_`), alone or in the section of a profile.
struct FileCredentials: AWSCredentialsSource {
    let path: String
    /// nil: `default`, or the settings before any section.
    let profile: String?
    let surroundings: AWSSurroundings
    var name: String { "file \(path)" }

    func load() async throws(StoreError) -> AWSCredentialsFinding {
        try await surroundings.pool.run { () throws(StoreError) in .found(try read()) }
    }

    private func read() throws(StoreError) -> AWSCredentials {
        guard let bytes = try surroundings.contents(of: path) else {
            throw StoreError(.accessDenied, "the credentials file \(path) does not exist")
        }
        let document: INIDocument
        do throws(INIDocument.Malformed) {
            document = try INIDocument(bytes, openingSection: "default")
        } catch {
            throw StoreError(.invalid, "\(path), \(error)")
        }
        let wanted = profile ?? "default"
        guard let section = document[section: wanted] ?? document[section: "profile \(wanted)"] else {
            throw StoreError(.accessDenied, "\(path) has no section [\(wanted)]")
        }
        func setting(_ name: String) -> String? { section["aws_\(name)"] ?? section[name] }
        guard let id = setting("access_key_id"), let secret = setting("secret_access_key") else {
            throw StoreError(
                .accessDenied, "\(path) lacks aws_access_key_id or aws_secret_access_key in section [\(wanted)]")
        }
        return AWSCredentials(
            accessKeyID: id, secretAccessKey: secret, sessionToken: setting("session_token"), source: name)
    }
}
