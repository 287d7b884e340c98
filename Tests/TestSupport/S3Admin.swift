import Platform
import UnderStores

/// Makes and removes objects of one bucket, so that a test can change it behind a store's back.
package struct S3Admin: Sendable {
    package let endpoint: String
    package let bucket: String
    package let credentials: AWSCredentials

    package init(endpoint: String, bucket: String, credentials: AWSCredentials) {
        self.endpoint = endpoint
        self.bucket = bucket
        self.credentials = credentials
    }

    package func createBucket() async throws { try await send(S3Call("CreateBucket", .put, verb: .change)) }

    package func put(
        _ key: ByteString, _ bytes: [UInt8] = [], headers: [(name: String, value: String)] = []
    ) async throws {
        try await send(S3Call("PutObject", .put, key: key, headers: headers, body: bytes, verb: .change))
    }

    package func put(
        _ key: ByteString, _ text: String, headers: [(name: String, value: String)] = []
    ) async throws { try await put(key, Array(text.utf8), headers: headers) }

    /// Many small objects, some at a time.
    package func put(_ keys: [ByteString], _ text: String) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, key) in keys.enumerated() {
                if index >= 16 { try await group.next() }
                group.addTask { try await put(key, text) }
            }
            try await group.waitForAll()
        }
    }

    package func delete(_ key: ByteString) async throws {
        try await send(S3Call("DeleteObject", .delete, key: key, verb: .change))
    }

    @discardableResult
    package func send(_ call: S3Call) async throws -> HTTPResponse {
        var configuration = try S3Configuration(bucket: bucket)
        configuration.endpoint = endpoint
        let address = try S3Endpoint(configuration, region: "us-east-1")
        let request = call.request(
            to: address, region: "us-east-1", credentials: credentials, time: CivilTime(FileTime.now()),
            timeouts: HTTPTimeouts(firstByte: .seconds(60)))
        let response = try await TestTransport.shared.send(request, bodyLimit: 64 << 20)
        guard response.isSuccess else {
            throw TestSetupError(
                "\(call.action) \(call.key?.description ?? "") answered \(response.status): "
                    + String(decoding: response.body, as: UTF8.self)
            )
        }
        return response
    }
}
