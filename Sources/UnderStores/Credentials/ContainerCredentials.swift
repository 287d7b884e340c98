/// The endpoint that ECS and EKS Pod Identity give to a container.
///
/// Source: AWS SDKs and Tools Reference Guide, "Container credential provider".
struct ContainerCredentials: AWSCredentialsSource {
    let surroundings: AWSSurroundings
    let transport: any HTTPTransport
    var name: String { "container endpoint" }

    func load() async throws(StoreError) -> AWSCredentialsFinding {
        let url: String
        if let path = surroundings["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] {
            guard path.hasPrefix("/") else {
                throw StoreError(.invalid, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not start with a slash")
            }
            url = "http://169.254.170.2\(path)"
        } else if let full = surroundings["AWS_CONTAINER_CREDENTIALS_FULL_URI"] {
            guard Self.mayReceiveToken(full) else {
                throw StoreError(
                    .invalid,
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or http to this machine or the container agent")
            }
            url = full
        } else {
            return .absent("AWS_CONTAINER_CREDENTIALS_FULL_URI is not set")
        }
        var request = HTTPRequest(
            .get, url, headers: [("Accept", "application/json")],
            timeouts: HTTPTimeouts(connect: .seconds(2), firstByte: .seconds(5), stall: .seconds(5)),
            bypassesProxy: true)
        if let token = try await authorization() { request.headers.append(("Authorization", token)) }
        let service = CredentialsRequest(transport: transport, service: "the \(name)")
        let response = try await service.send(request)
        guard response.isSuccess else { throw service.refusal(response, "check the pod's identity or the task's role") }
        let document = try CredentialsDocument(response.body, from: service.service)
        return .found(try document.credentials(from: name))
    }

    /// The file is read anew each time: its token is rotated.
    private func authorization() async throws(StoreError) -> String? {
        var token = surroundings["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
        if let path = surroundings["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] {
            token = try await surroundings.text(of: path)
            if token == nil { throw StoreError(.accessDenied, "the container's token file \(path) does not exist") }
        }
        guard let token else { return nil }
        guard !token.utf8.contains(where: { $0 < 0x20 }) else {
            throw StoreError(.invalid, "the container's authorization token has a line break or control character")
        }
        return token
    }

    /// Whether a URL is one that the token may be sent to: encrypted, of this machine, or of the ECS or EKS agent.
    static func mayReceiveToken(_ url: String) -> Bool {
        if url.hasPrefix("https://") { return url.utf8.count > "https://".utf8.count }
        guard url.hasPrefix("http://") else { return false }
        let authority = url.dropFirst("http://".count).prefix { !"/?#".contains($0) }
        // A user name before the host could pass for a host.
        guard !authority.contains("@"), !authority.contains("\\") else { return false }
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { return false }
            return ["[::1]", "[fd00:ec2::23]"].contains(authority[...end].lowercased())
        }
        let host = authority.prefix { $0 != ":" }.lowercased()
        if ["localhost", "169.254.170.2", "169.254.170.23"].contains(host) { return true }
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }
}
