import Platform

/// Parses a ListObjectsV2 answer while it arrives.
final class ListBody: S3BodyConsumer, @unchecked Sendable {
    /// A page of 1000 keys of 1024 bytes, each byte written as `%XX`, with all their attributes, is under 5 MiB.
    private static let sizeLimit = 16 << 20

    private let name: String
    // Touched on the transport's thread during a transfer, and by the listing task after it.
    private var reader: XMLReader<ListBucketHandler>?
    private var failure: StoreError?
    private(set) var page: ListBucketPage?

    /// - Parameter name: of what is listed, for messages.
    init(name: String) { self.name = name }

    func begin(_ response: HTTPResponse) throws -> HTTPBodyDisposition {
        failure = nil
        page = nil
        reader = try XMLReader(ListBucketHandler(), sizeLimit: Self.sizeLimit)
        return .stream
    }

    func receive(_ bytes: UnsafeRawBufferPointer) throws {
        do { try reader?.feed(bytes) } catch {
            failure = error
            throw error
        }
    }

    func problem() -> S3BodyProblem? {
        defer { reader = nil }
        do throws(StoreError) {
            if let failure { throw failure }
            guard let reader else { throw StoreError(.protocolViolation, "the answer is empty") }
            try reader.finish()
            page = reader.handler.page
            return nil
        } catch {
            return .suspicious(StoreError(error.kind, "listing \(name): \(error.message)"))
        }
    }
}
