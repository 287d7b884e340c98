import Crypto
import Platform

/// A role to take on.
struct AssumedRole: Hashable, Sendable {
    var arn: String
    /// What the role's log shows; nil for one of Larder's own.
    var sessionName: String?
    var externalID: String?
    /// 900…43200; nil for the role's default of an hour.
    var durationSeconds: Int?
}

/// AWS STS: gives temporary credentials of a role.
///
/// Source: AWS Security Token Service API Reference, AssumeRole and AssumeRoleWithWebIdentity, version 2011-06-15.
struct SecurityTokenService: Sendable {
    /// nil for Amazon's own of the region.
    let endpoint: String?
    let region: String?
    let surroundings: AWSSurroundings
    let transport: any HTTPTransport

    /// AssumeRole, signed with `credentials`.
    func assumeRole(_ role: AssumedRole, with credentials: AWSCredentials) async throws(StoreError) -> AWSCredentials {
        try await exchange(action: "AssumeRole", for: role, [], signedWith: credentials)
    }

    /// AssumeRoleWithWebIdentity, unsigned; the token file is read anew each time, since it is rotated.
    func assumeRole(_ role: AssumedRole, tokenFile: String) async throws(StoreError) -> AWSCredentials {
        guard let token = try await surroundings.text(of: tokenFile), !token.isEmpty else {
            throw StoreError(.accessDenied, "the web identity token file \(tokenFile) does not exist or is empty")
        }
        return try await exchange(
            action: "AssumeRoleWithWebIdentity", for: role, [("WebIdentityToken", token)], signedWith: nil)
    }

    private func exchange(
        action: String, for role: AssumedRole, _ parameters: [(String, String)],
        signedWith credentials: AWSCredentials?
    ) async throws(StoreError) -> AWSCredentials {
        let now = surroundings.now()
        var form = [
            ("Action", action), ("Version", "2011-06-15"), ("RoleArn", role.arn),
            ("RoleSessionName", role.sessionName ?? "larder-\(now.seconds)"),
        ]
        if let id = role.externalID { form.append(("ExternalId", id)) }
        if let seconds = role.durationSeconds { form.append(("DurationSeconds", String(seconds))) }
        let body = (form + parameters)
            .map { "\($0)=\(PercentEncoding.encode($1.utf8, keepsSlashes: false))" }.joined(separator: "&")
        let service = CredentialsRequest(transport: transport, service: "STS at \(host)")
        let response = try await service.send(request(Array(body.utf8), signedWith: credentials, at: now))
        let answer = STSAnswer(response.body)
        guard response.isSuccess else { throw refusal(response, answer, role, service) }
        guard let id = answer?.accessKeyID, let secret = answer?.secretAccessKey else {
            throw StoreError(.protocolViolation, "\(service.service) answered \(action) without credentials")
        }
        return AWSCredentials(
            accessKeyID: id, secretAccessKey: secret, sessionToken: answer?.sessionToken,
            expiry: answer?.expiration.flatMap { FileTime(timestamp: $0) } ?? FileTime(seconds: now.seconds + 900),
            source: "role \(role.arn)")
    }

    private func refusal(
        _ response: HTTPResponse, _ answer: STSAnswer?, _ role: AssumedRole, _ service: CredentialsRequest
    ) -> StoreError {
        guard let code = answer?.errorCode else { return service.refusal(response, "role \(role.arn)") }
        // The message is left out: it may quote the token.
        return service.refusal(response, "\(code.prefix(80)) for role \(role.arn)")
    }

    private func request(_ body: [UInt8], signedWith credentials: AWSCredentials?, at now: FileTime) -> HTTPRequest {
        let type = "application/x-www-form-urlencoded; charset=utf-8"
        var headers: [(name: String, value: String)] = [("Content-Type", type)]
        if let credentials {
            let time = CivilTime(now)
            headers.append(("X-Amz-Date", time.basicDateTime))
            if let token = credentials.sessionToken { headers.append(("X-Amz-Security-Token", token)) }
            let signer = SigV4Signer(
                credentials: credentials, region: region ?? "us-east-1", service: "sts", time: time,
                pathRule: .normalized)
            let input = SigV4Signer.Input(
                method: "POST", path: path, headers: headers + [("host", host)],
                payloadHash: hexadecimal(SHA256.hash(data: body)))
            headers.append(("Authorization", signer.authorization(input)))
        }
        return HTTPRequest(
            .post, url, headers: headers, body: body,
            timeouts: HTTPTimeouts(connect: .seconds(5), firstByte: .seconds(10), stall: .seconds(10)))
    }

    private var url: String {
        if let endpoint {
            let afterScheme = endpoint.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false).last ?? ""
            return afterScheme.contains("/") ? endpoint : endpoint + "/"
        }
        guard let region else { return "https://sts.amazonaws.com/" }
        return "https://sts.\(region).amazonaws.com\(region.hasPrefix("cn-") ? ".cn" : "")/"
    }

    /// With the port, as the Host header has it.
    private var host: String { String(url.split(separator: "/", maxSplits: 2).dropFirst().first ?? "") }

    private var path: String { "/" + (url.split(separator: "/", maxSplits: 2).dropFirst(2).first ?? "") }
}
