import Coordination
import Logging
import Platform
import UnderStores

/// Whether a store can be reached and read: address, TLS, clock, credentials, bucket; each by itself, so that one finding
/// names one cause.
package struct StoreCheckup {
    /// AWS refuses requests signed more than 15 minutes off.
    private static let largestSkew: Int64 = 900
    private static let largeSkew: Int64 = 60

    private let specification: WireMountSpecification

    package init(_ specification: WireMountSpecification) { self.specification = specification }

    @available(*, noasync, message: "blocks its thread")
    package func run() -> [Finding] {
        let source = specification.source
        let store: any UnderStore
        do throws(CommandFailure) { store = try StoreTest.open(specification) } catch {
            return [.failure(source, error.message, remedy: "correct the source and its options")]
        }
        var findings: [Finding] = []
        if let s3 = store as? S3Store {
            findings += address(s3)
            guard !findings.contains(where: { $0.verdict == .failure }) else { return findings }
            findings.append(credentials(s3))
        }
        findings.append(root(store))
        return findings
    }

    /// One request without a signature: any answer will do.
    private func address(_ store: S3Store) -> [Finding] {
        let configuration = store.configuration
        let outcome = BlockingTask.run { () async -> Result<(String, HTTPResponse), HTTPError> in
            var origin = configuration.endpoint ?? "https://s3.amazonaws.com"
            if let endpoint = try? S3Endpoint(configuration, region: configuration.region ?? "us-east-1") {
                origin = endpoint.origin
            }
            do throws(HTTPError) {
                let transport = try CurlTransport(
                    options: configuration.transportOptions, logger: Logger(label: "larder"))
                let response = try await transport.send(HTTPRequest(.get, origin + "/"), bodyLimit: 1 << 20)
                return .success((origin, response))
            } catch { return .failure(error) }
        }
        switch outcome {
        case .failure(let error): return [Self.describe(error, endpoint: configuration.endpoint ?? "AWS")]
        case .success(let (origin, response)):
            return [.ok("endpoint", "\(origin) answers"), Self.clock(response.headers["date"], now: .now())]
        }
    }

    package static func describe(_ error: HTTPError, endpoint: String) -> Finding {
        let remedy =
            switch error.kind {
            case .resolve: "check the spelling of the endpoint, and this machine's DNS (/etc/resolv.conf)"
            case .connect: "check that the server runs, and that no firewall is between"
            case .tls:
                "check scheme and host; a private certificate authority needs --ca-file, or caFile in a namespace file"
            case .proxy: "check the proxy, and http_proxy, https_proxy and no_proxy in the environment"
            case .timeout: "check the network, the firewall and the server's load"
            default: "check the endpoint"
            }
        return .failure(
            "endpoint", error.message.contains(endpoint) ? error.message : "\(endpoint): \(error.message)",
            remedy: remedy)
    }

    /// - Parameter date: the Date header of an answer.
    package static func clock(_ date: String?, now: FileTime) -> Finding {
        guard let server = date.flatMap({ CivilTime(httpDate: $0) })?.fileTime else {
            return .ok("clock", "the store does not say what time it is")
        }
        let skew = now.seconds - server.seconds
        let text = "\(TimeSpan.format(seconds: Double(abs(skew)))) \(skew < 0 ? "behind" : "ahead of") the store's"
        let remedy = "set this machine's clock (timedatectl set-ntp true)"
        if abs(skew) >= largestSkew { return .failure("clock", text, remedy: remedy) }
        if abs(skew) >= largeSkew { return .warning("clock", text, remedy: remedy) }
        return .ok("clock", abs(skew) < 2 ? "agrees with the store's" : text)
    }

    private func credentials(_ store: S3Store) -> Finding {
        if store.configuration.anonymous { return .ok("credentials", "none: requests are anonymous") }
        let specification = specification
        let region = store.configuration.region
        let options = store.configuration.transportOptions
        let outcome = BlockingTask.run { () async -> Result<String, StoreError> in
            guard let transport = try? CurlTransport(options: options, logger: Logger(label: "larder")) else {
                return .failure(StoreError(.unavailable, "libcurl cannot be set up"))
            }
            let chain = AWSCredentialsChain(
                environment: ProcessEnvironment.current(),
                profile: specification.profile.isEmpty ? nil : specification.profile,
                credentialsFile: specification.credentialsFile.isEmpty ? nil : specification.credentialsFile,
                region: region, transport: transport)
            do throws(StoreError) {
                return .success(try await chain.credentials().map(\.description) ?? "none: requests are not signed")
            } catch { return .failure(error) }
        }
        switch outcome {
        case .success(let text): return .ok("credentials", text)
        case .failure(let error):
            return .failure(
                "credentials", error.message,
                remedy: "give credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID, ~/.aws), or --anonymous for public buckets")
        }
    }

    private func root(_ store: any UnderStore) -> Finding {
        let source = specification.source
        let outcome = BlockingTask.run { () async -> Result<ObjectAttributes?, StoreError> in
            do throws(StoreError) { return .success(try await store.lookup("")) } catch { return .failure(error) }
        }
        switch outcome {
        case .success(let found?) where found.kind == .directory: return .ok(source, "can be read")
        case .success(nil): return .failure(source, "does not exist", remedy: "correct the source")
        case .success: return .failure(source, "is not a directory", remedy: "correct the source")
        case .failure(let error):
            let remedy =
                switch error.kind {
                case .accessDenied: "check the credentials, and that they allow s3:ListBucket and s3:GetObject"
                case .notFound: "check the name of the bucket, the endpoint and the region"
                default: "see the message"
                }
            return .failure(source, error.message, remedy: remedy)
        }
    }
}
