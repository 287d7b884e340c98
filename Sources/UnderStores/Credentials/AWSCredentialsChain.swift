import Platform

/// The standard search for AWS credentials: a named file alone; or else the environment, the profile, web identity, the
/// container endpoint and instance metadata, in this order. The first that is configured counts.
///
/// What is found is kept and renewed before it expires (`RefreshedCredentials`). Nothing is searched before the first
/// call. Any task.
package final class AWSCredentialsChain: AWSCredentialsProvider {
    private let refreshed: RefreshedCredentials

    /// - Parameters:
    ///   - environment: the process's variables, e.g. AWS_PROFILE.
    ///   - profile: named by the user; it then counts before the keys of the environment.
    ///   - credentialsFile: named by the user; nothing else is then looked at.
    ///   - region: of the STS endpoint; nil for that of the environment or profile.
    ///   - transport: for STS, container and metadata endpoints.
    package convenience init(
        environment: [String: String], profile: String? = nil, credentialsFile: String? = nil, region: String? = nil,
        transport: any HTTPTransport
    ) {
        self.init(
            in: AWSSurroundings(environment: environment), profile: profile, credentialsFile: credentialsFile,
            region: region, transport: transport)
    }

    package init(
        in surroundings: AWSSurroundings, profile: String? = nil, credentialsFile: String? = nil,
        region: String? = nil, transport: any HTTPTransport
    ) {
        let search = AWSCredentialsSearch(
            surroundings: surroundings, profile: profile, credentialsFile: credentialsFile, region: region,
            transport: transport)
        refreshed = RefreshedCredentials(in: surroundings) {
            do throws(StoreError) { return .success(try await search.run()) } catch { return .failure(error) }
        }
    }

    /// Throws `.accessDenied` with every source tried and the reason of each when there are none.
    package func credentials() async throws(StoreError) -> AWSCredentials? { try await refreshed.credentials() }

    package func invalidate(_ rejected: AWSCredentials) async { refreshed.invalidate(rejected) }

    /// Returns when no renewal is under way; for tests.
    func settle() async { await refreshed.settle() }
}

/// One run through the sources. Files and settings are read anew each time: they may have been corrected.
struct AWSCredentialsSearch: Sendable {
    let surroundings: AWSSurroundings
    let profile: String?
    let credentialsFile: String?
    let region: String?
    let transport: any HTTPTransport

    func run() async throws(StoreError) -> AWSCredentials {
        var reasons: [String] = []
        for source in try await sources() {
            switch try await source.load() {
            case .found(let credentials): return credentials
            case .absent(let reason): reasons.append("\(source.name) (\(reason))")
            }
        }
        throw StoreError(
            .accessDenied,
            "no AWS credentials found in: \(reasons.joined(separator: "; ")); configure one of them, or use --anonymous"
        )
    }

    private func sources() async throws(StoreError) -> [any AWSCredentialsSource] {
        if let credentialsFile {
            return [FileCredentials(path: credentialsFile, profile: profile, surroundings: surroundings)]
        }
        let environment = EnvironmentCredentials(surroundings: surroundings)
        // Settled here so that a broken ~/.aws does not matter to who has credentials in the environment.
        if profile == nil, case .found = try await environment.load() { return [environment] }
        let (settings, profiles) = try await surroundings.pool.run { () throws(StoreError) in
            let profiles = try AWSProfiles(in: surroundings)
            return (try AWSSettings(profile: profile, in: surroundings, profiles: profiles), profiles)
        }
        let sts = SecurityTokenService(
            endpoint: settings.stsEndpoint, region: region ?? settings.region, surroundings: surroundings,
            transport: transport)
        let fromProfile = ProfileCredentials(
            settings: settings, profiles: profiles, surroundings: surroundings, sts: sts, transport: transport)
        return (profile == nil ? [environment] : []) + [
            fromProfile, WebIdentityCredentials(surroundings: surroundings, sts: sts),
            ContainerCredentials(surroundings: surroundings, transport: transport),
            InstanceMetadataCredentials(surroundings: surroundings, transport: transport),
        ]
    }
}
