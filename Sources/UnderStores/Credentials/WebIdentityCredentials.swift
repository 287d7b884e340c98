/// A Kubernetes service account's token exchanged for a role's credentials (IRSA): AWS_WEB_IDENTITY_TOKEN_FILE,
/// AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME.
struct WebIdentityCredentials: AWSCredentialsSource {
    let surroundings: AWSSurroundings
    let sts: SecurityTokenService
    var name: String { "web identity" }

    func load() async throws(StoreError) -> AWSCredentialsFinding {
        guard let file = surroundings["AWS_WEB_IDENTITY_TOKEN_FILE"] else {
            return .absent("AWS_WEB_IDENTITY_TOKEN_FILE is not set")
        }
        guard let role = surroundings["AWS_ROLE_ARN"] else {
            throw StoreError(.accessDenied, "AWS_WEB_IDENTITY_TOKEN_FILE is set but AWS_ROLE_ARN is not; set both")
        }
        return .found(
            try await sts.assumeRole(
                AssumedRole(arn: role, sessionName: surroundings["AWS_ROLE_SESSION_NAME"]), tokenFile: file))
    }
}
