import Coordination
import FoundationEssentials
import Glibc
import Logging
import Platform
import UnderStores

/// Makes the stores of mount points from their specifications. Only here do credentials and sources meet.
package struct StoreRegistry: Sendable {
    private let logger: Logger

    package init(logger: Logger) { self.logger = logger }

    package var factory: StoreFactory {
        { specification async throws(StoreError) in try await make(specification) }
    }

    /// Throws `.invalid` for a source or option that cannot work, or what the store says when it is opened.
    package func make(_ specification: WireMountSpecification) async throws(StoreError) -> any UnderStore {
        let source = specification.source
        if source.hasPrefix("s3://") { return try await makeS3(specification) }
        if source.hasPrefix("file://") { return try await makeLocal(String(source.dropFirst("file://".count))) }
        if source.hasPrefix("/") { return try await makeLocal(source) }
        throw StoreError(.invalid, "\(source): unknown kind of source; use s3://bucket/prefix or file:///directory")
    }

    private func makeLocal(_ path: String) async throws(StoreError) -> any UnderStore {
        try await LocalStore.sharedPool.run { () throws(StoreError) in try LocalStore(root: path) }
    }

    private func makeS3(_ specification: WireMountSpecification) async throws(StoreError) -> any UnderStore {
        // The mounting user's variables, where the mount sent them, else the coordinator's own.
        let environment =
            specification.environment.isEmpty
            ? ProcessEnvironment.current()
            : ProcessEnvironment.current().filter { !$0.key.hasPrefix("AWS_") }
                .merging(specification.environment) { $1 }
        let surroundings = AWSSurroundings(environment: environment)
        let profile = specification.profile.nonEmpty
        let settings = try await AWSSettings.resolve(profile: profile, in: surroundings)
        var configuration = try S3Configuration(url: specification.source)
        configuration.endpoint = specification.endpoint.nonEmpty ?? settings.s3Endpoint
        configuration.region = specification.region.nonEmpty ?? settings.region
        configuration.anonymous = specification.anonymous
        configuration.requesterPays = specification.requesterPays
        configuration.caFile = specification.caFile.nonEmpty ?? settings.caBundle
        configuration.verifyTLS = !specification.insecureTls
        configuration.proxy = specification.proxy.nonEmpty
        configuration.serverSideEncryption = specification.serverSideEncryption.nonEmpty
        configuration.kmsKeyID = specification.kmsKeyID.nonEmpty
        configuration.storageClass = specification.storageClass.nonEmpty
        configuration.tags = specification.tags
        configuration.acl = specification.acl.nonEmpty
        if let style = specification.pathStyle.nonEmpty {
            guard let known = S3Configuration.PathStyle(rawValue: style) else {
                throw StoreError(.invalid, "path style \(style) is unknown; use auto, on or off")
            }
            configuration.pathStyle = known
        }
        if let file = specification.customerKeyFile.nonEmpty {
            configuration.sseCustomerKey = try await Self.customerKey(file)
        }
        let transport: CurlTransport
        do { transport = try CurlTransport(options: configuration.transportOptions, logger: logger) } catch {
            throw StoreError(.unavailable, "cannot set up HTTP for \(specification.source): \(error)")
        }
        let credentials = AWSCredentialsChain(
            in: surroundings, profile: profile, credentialsFile: specification.credentialsFile.nonEmpty,
            region: configuration.region, transport: transport)
        return try S3Store(
            configuration: configuration, credentials: credentials, transport: transport, logger: logger)
    }

    /// The key file of SSE-C holds the 32 bytes, or their Base64.
    private static func customerKey(_ path: String) async throws(StoreError) -> SSECustomerKey {
        try await LocalStore.sharedPool.run { () throws(StoreError) in
            guard let file = try? Descriptor.open(path, O_RDONLY) else {
                throw StoreError(.invalid, "the SSE-C key file \(path) cannot be read")
            }
            var bytes = [UInt8](repeating: 0, count: 256)
            let count = (try? bytes.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }) ?? 0
            bytes.removeLast(bytes.count - count)
            let text =
                bytes.count == 32
                ? Data(bytes).base64EncodedString()
                : String(String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace })
            do { return try SSECustomerKey(base64: text) } catch {
                throw StoreError(.invalid, "the SSE-C key file \(path) holds neither 32 bytes nor their Base64")
            }
        }
    }
}

extension String {
    /// nil for the empty string, which is how a message says that a field is not set.
    fileprivate var nonEmpty: String? { isEmpty ? nil : self }
}
