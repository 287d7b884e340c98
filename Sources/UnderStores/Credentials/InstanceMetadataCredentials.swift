/// The role of the EC2 instance, by IMDSv2: a session token first, then the role's name, then its credentials.
///
/// Source: Amazon EC2 User Guide, "Use the Instance Metadata Service to access instance metadata". IMDSv1 is never
/// used.
struct InstanceMetadataCredentials: AWSCredentialsSource {
    let surroundings: AWSSurroundings
    let transport: any HTTPTransport
    var name: String { "instance metadata" }

    // Off EC2 nobody answers at the address: the search must not stand still for long.
    private static let timeouts = HTTPTimeouts(connect: .seconds(1), firstByte: .seconds(2), stall: .seconds(2))
    private static let path = "/latest/meta-data/iam/security-credentials/"

    func load() async throws(StoreError) -> AWSCredentialsFinding {
        if surroundings.isTrue("AWS_EC2_METADATA_DISABLED") { return .absent("disabled by AWS_EC2_METADATA_DISABLED") }
        let service = CredentialsRequest(transport: transport, service: "the instance metadata service", attempts: 2)
        let answer: HTTPResponse
        do throws(StoreError) {
            answer = try await service.send(
                request(.put, "/latest/api/token", ("X-aws-ec2-metadata-token-ttl-seconds", "21600")))
        } catch {
            if error.kind == .cancelled { throw error }
            return .absent("nobody answers at \(endpoint)")
        }
        guard answer.isSuccess else {
            return .absent("\(endpoint) answered the request for a token with status \(answer.status)")
        }
        let token = ("X-aws-ec2-metadata-token", String(decoding: answer.body, as: UTF8.self))
        guard Self.isHeaderValue(token.1) else {
            throw StoreError(.protocolViolation, "\(service.service) gave a token that cannot be a header")
        }
        let roles = try await service.send(request(.get, Self.path, token))
        if roles.status == 404 { return .absent("the instance has no role") }
        guard roles.isSuccess else { throw service.refusal(roles) }
        let role = String(decoding: roles.body.prefix { $0 > 0x20 }, as: UTF8.self)
        guard !role.isEmpty else { return .absent("the instance has no role") }
        guard Self.isRoleName(role) else {
            throw StoreError(.protocolViolation, "\(service.service) gave a role name that is none")
        }
        let response = try await service.send(request(.get, Self.path + role, token))
        guard response.isSuccess else { throw service.refusal(response) }
        let document = try CredentialsDocument(response.body, from: service.service)
        return .found(try document.credentials(from: "\(name), role \(role)"))
    }

    private func request(
        _ method: HTTPRequest.Method, _ path: String, _ header: (String, String)
    ) -> HTTPRequest {
        HTTPRequest(
            method, endpoint + path, headers: [(name: header.0, value: header.1)],
            body: method == .put ? [] : nil, timeouts: Self.timeouts, bypassesProxy: true)
    }

    private var endpoint: String {
        if let endpoint = surroundings["AWS_EC2_METADATA_SERVICE_ENDPOINT"] {
            return endpoint.hasSuffix("/") ? String(endpoint.dropLast()) : endpoint
        }
        let isIPv6 = surroundings["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"]?.lowercased() == "ipv6"
        return isIPv6 ? "http://[fd00:ec2::254]" : "http://169.254.169.254"
    }

    private static func isHeaderValue(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }

    /// IAM: letters, digits and `+=,.@_-`.
    private static func isRoleName(_ text: String) -> Bool {
        text.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || "+=,.@_-".utf8.contains(byte)
        }
    }
}
