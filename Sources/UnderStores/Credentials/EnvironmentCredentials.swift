/// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN.
struct EnvironmentCredentials: AWSCredentialsSource {
    let surroundings: AWSSurroundings
    var name: String { "environment" }

    func load() async throws(StoreError) -> AWSCredentialsFinding {
        let secret = surroundings["AWS_SECRET_ACCESS_KEY"]
        guard let id = surroundings["AWS_ACCESS_KEY_ID"] else {
            if secret == nil { return .absent("AWS_ACCESS_KEY_ID is not set") }
            throw StoreError(.accessDenied, "AWS_SECRET_ACCESS_KEY is set but AWS_ACCESS_KEY_ID is not; set both")
        }
        guard let secret else {
            throw StoreError(.accessDenied, "AWS_ACCESS_KEY_ID is set but AWS_SECRET_ACCESS_KEY is not; set both")
        }
        return .found(
            AWSCredentials(
                accessKeyID: id, secretAccessKey: secret, sessionToken: surroundings["AWS_SESSION_TOKEN"],
                source: name))
    }
}
