import Platform

/// One request of the S3 API, before it is addressed and signed.
package struct S3Call: Sendable {
    /// The IAM action that it needs, for messages: `s3:GetObject`, ….
    package var action: String
    package var method: HTTPRequest.Method
    /// nil for the bucket itself.
    package var key: ByteString?
    /// Not encoded, in any order.
    package var query: [(name: String, value: String)]
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]?
    /// Sent instead of `body`.
    package var upload: UploadBody?
    package var verb: StoreMeter.Verb
    /// A success may turn out to be an error in its body: the store begins its answer before it has done the work
    /// (CopyObject, UploadPartCopy and CompleteMultipartUpload, Amazon S3 API Reference).
    package var mayFailLate = false
    /// Bytes of the answer's body, where it is collected.
    package var answerLimit = 64 << 10
    /// How many times as long as usual the first byte of the answer may take: the store moves or stores many bytes.
    package var patience = 1

    package init(
        _ action: String, _ method: HTTPRequest.Method, key: ByteString? = nil,
        query: [(name: String, value: String)] = [], headers: [(name: String, value: String)] = [],
        body: [UInt8]? = nil, upload: UploadBody? = nil, verb: StoreMeter.Verb
    ) {
        self.action = action
        self.method = method
        self.key = key
        self.query = query
        self.headers = headers
        self.body = upload?.range.isEmpty == true ? [] : body
        self.upload = upload?.range.isEmpty == true ? nil : upload
        self.verb = verb
    }

    /// Makes the request to send: addressed to `endpoint` and, with credentials, signed for `region` at `time`.
    package func request(
        to endpoint: S3Endpoint, region: String, credentials: AWSCredentials?, time: CivilTime, timeouts: HTTPTimeouts
    ) -> HTTPRequest {
        let path = endpoint.path(key: key)
        let canonicalQuery = SigV4Signer.canonicalQuery(query)
        var request = HTTPRequest(
            method, endpoint.origin + path + (canonicalQuery.isEmpty ? "" : "?\(canonicalQuery)"), headers: headers,
            body: body, timeouts: timeouts)
        request.upload = upload
        request.timeouts.firstByte *= patience
        guard let credentials else { return request }
        // An https body is protected already; hashing it again would cost more than TLS does. The bytes of a file are
        // protected by a checksum among the signed headers, which costs far less than a SHA-256.
        let payloadHash =
            switch body {
            case _ where upload != nil: SigV4Signer.unsignedPayload
            case nil: SigV4Signer.emptyPayloadHash
            case let body? where endpoint.scheme == "http": SigV4Signer.hash(ofPayload: body)
            case _?: SigV4Signer.unsignedPayload
            }
        request.headers.append(("x-amz-content-sha256", payloadHash))
        request.headers.append(("x-amz-date", time.basicDateTime))
        if let token = credentials.sessionToken { request.headers.append(("x-amz-security-token", token)) }
        let signer = SigV4Signer(credentials: credentials, region: region, service: "s3", time: time)
        let authorization = signer.authorization(
            SigV4Signer.Input(
                method: method.rawValue, path: path, query: query,
                headers: request.headers + [("host", endpoint.authority)], payloadHash: payloadHash))
        request.headers.append(("Authorization", authorization))
        return request
    }
}
