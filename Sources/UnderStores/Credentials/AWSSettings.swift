import Platform

/// The settings besides credentials that AWS tools take from the environment and the profile.
package struct AWSSettings: Sendable {
    /// The profile in effect: the argument, AWS_PROFILE, or `default`.
    package let profile: String
    /// Whether the user named it, so that it must exist.
    package let isProfileNamed: Bool
    /// AWS_REGION, AWS_DEFAULT_REGION, or the profile's `region`.
    package let region: String?
    /// AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or the profile's; nil for Amazon's own.
    package let s3Endpoint: String?
    /// AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL, or the profile's; nil for Amazon's own.
    package let stsEndpoint: String?
    /// AWS_CA_BUNDLE, or the profile's `ca_bundle`: a file of PEM certificates to trust instead of the system's.
    package let caBundle: String?

    /// Reads the profile's files. Blocks.
    ///
    /// - Throws: `.accessDenied` or `.invalid` for a file that cannot be read or is malformed.
    package init(profile: String? = nil, in surroundings: AWSSurroundings) throws(StoreError) {
        try self.init(profile: profile, in: surroundings, profiles: AWSProfiles(in: surroundings))
    }

    init(profile: String?, in surroundings: AWSSurroundings, profiles: AWSProfiles) throws(StoreError) {
        let named = profile ?? surroundings["AWS_PROFILE"]
        let name = named ?? "default"
        self.profile = name
        isProfileNamed = named != nil
        region = surroundings["AWS_REGION"] ?? surroundings["AWS_DEFAULT_REGION"] ?? profiles[name]?["region"]
        let ignoresEndpoints = surroundings.isTrue("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        func endpoint(_ service: String) -> String? {
            if ignoresEndpoints { return nil }
            return surroundings["AWS_ENDPOINT_URL_\(service.uppercased())"] ?? surroundings["AWS_ENDPOINT_URL"]
                ?? profiles.endpoint(of: service, profile: name)
        }
        s3Endpoint = endpoint("s3")
        stsEndpoint = endpoint("sts")
        caBundle = (surroundings["AWS_CA_BUNDLE"] ?? profiles[name]?["ca_bundle"]).map(surroundings.expand)
    }

    /// `init` for async code, on the surroundings' threads.
    package static func resolve(
        profile: String? = nil, in surroundings: AWSSurroundings
    ) async throws(StoreError) -> AWSSettings {
        try await surroundings.pool.run { () throws(StoreError) in try AWSSettings(profile: profile, in: surroundings) }
    }
}
