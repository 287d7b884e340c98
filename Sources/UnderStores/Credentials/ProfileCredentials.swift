import Platform

/// The profile of `~/.aws/config` and `~/.aws/credentials`: keys of its own, a program that gives them, or a role taken
/// on with the credentials of another profile or place.
///
/// Source: AWS SDKs and Tools Reference Guide, "Assume role credential provider" and "Process credential provider".
struct ProfileCredentials: AWSCredentialsSource {
    let settings: AWSSettings
    let profiles: AWSProfiles
    let surroundings: AWSSurroundings
    let sts: SecurityTokenService
    /// For `credential_source`.
    let transport: any HTTPTransport

    var name: String { "profile \"\(settings.profile)\"" }

    func load() async throws(StoreError) -> AWSCredentialsFinding {
        guard let profile = profiles[settings.profile] else {
            if settings.isProfileNamed {
                throw StoreError(.accessDenied, "\(name) is not in \(profiles.files)")
            }
            return .absent("not in \(profiles.files)")
        }
        if let found = try await credentials(of: profile, named: settings.profile, visited: []) { return .found(found) }
        if profile.properties.keys.contains(where: { $0.hasPrefix("sso_") }) {
            throw StoreError(
                .accessDenied,
                "\(name) uses SSO; set credential_process = aws configure export-credentials --profile \(settings.profile)"
            )
        }
        if settings.isProfileNamed { throw StoreError(.accessDenied, "\(name) has no credentials") }
        return .absent("it has no credentials")
    }

    /// nil when the profile has none. `visited`: the profiles whose roles are being taken on.
    private func credentials(
        of profile: INIDocument.Section, named name: String, visited: [String]
    ) async throws(StoreError) -> AWSCredentials? {
        // A role whose source is its own profile means the keys of that profile.
        if let arn = profile["role_arn"], visited.last != name {
            guard !visited.contains(name) else {
                let loop = (visited + [name]).joined(separator: " -> ")
                throw StoreError(.invalid, "the source_profile settings form a loop: \(loop)")
            }
            return try await assume(arn, profile, name, visited + [name])
        }
        if let id = profile["aws_access_key_id"] {
            guard let secret = profile["aws_secret_access_key"] else {
                throw StoreError(
                    .accessDenied, "profile \"\(name)\" has aws_access_key_id but no aws_secret_access_key")
            }
            return AWSCredentials(
                accessKeyID: id, secretAccessKey: secret, sessionToken: profile["aws_session_token"],
                source: "profile \"\(name)\"")
        }
        if let command = profile["credential_process"] {
            let process = CredentialProcess(command: command, profile: name, surroundings: surroundings)
            return try await process.run()
        }
        return nil
    }

    private func assume(
        _ arn: String, _ profile: INIDocument.Section, _ name: String, _ visited: [String]
    ) async throws(StoreError) -> AWSCredentials {
        if profile["mfa_serial"] != nil {
            throw StoreError(
                .unsupported, "profile \"\(name)\" asks for an MFA code, which Larder cannot ask anyone for")
        }
        var role = AssumedRole(arn: arn, sessionName: profile["role_session_name"], externalID: profile["external_id"])
        if let text = profile["duration_seconds"] {
            guard let seconds = Int(text), (900...43200).contains(seconds) else {
                throw StoreError(.invalid, "profile \"\(name)\": duration_seconds must be from 900 to 43200")
            }
            role.durationSeconds = seconds
        }
        if let file = profile["web_identity_token_file"] { return try await sts.assumeRole(role, tokenFile: file) }
        switch (profile["source_profile"], profile["credential_source"]) {
        case (let source?, nil):
            guard let section = profiles[source] else {
                throw StoreError(
                    .accessDenied, "profile \"\(name)\": source_profile \"\(source)\" is not in \(profiles.files)")
            }
            guard let base = try await credentials(of: section, named: source, visited: visited) else {
                throw StoreError(.accessDenied, "profile \"\(name)\": source_profile \"\(source)\" has no credentials")
            }
            return try await sts.assumeRole(role, with: base)
        case (nil, let place?):
            return try await sts.assumeRole(role, with: credentials(from: place, for: name))
        default:
            throw StoreError(
                .invalid,
                "profile \"\(name)\" has a role_arn; it needs one of source_profile, credential_source, web_identity_token_file"
            )
        }
    }

    private func credentials(from place: String, for name: String) async throws(StoreError) -> AWSCredentials {
        let source: any AWSCredentialsSource
        switch place {
        case "Environment": source = EnvironmentCredentials(surroundings: surroundings)
        case "Ec2InstanceMetadata":
            source = InstanceMetadataCredentials(surroundings: surroundings, transport: transport)
        case "EcsContainer": source = ContainerCredentials(surroundings: surroundings, transport: transport)
        default:
            throw StoreError(
                .invalid,
                "profile \"\(name)\": credential_source must be Environment, Ec2InstanceMetadata or EcsContainer")
        }
        switch try await source.load() {
        case .found(let credentials): return credentials
        case .absent(let reason):
            throw StoreError(.accessDenied, "profile \"\(name)\": credential_source \(place) has none: \(reason)")
        }
    }
}
