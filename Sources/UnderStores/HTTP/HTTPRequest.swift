/// One HTTP/1.1 request, complete: a transport adds nothing to its headers but what HTTP itself needs (`Host`,
/// `Content-Length`, `Accept`).
package struct HTTPRequest: Sendable {
    package enum Method: String, Hashable, Sendable, CaseIterable {
        case get = "GET"
        case head = "HEAD"
        case put = "PUT"
        case post = "POST"
        case delete = "DELETE"
    }

    package var method: Method
    /// Absolute `http://` or `https://` URL, already percent-encoded; it is sent byte for byte as given.
    package var url: String
    /// In the order in which they are sent. A name may occur more than once.
    package var headers: [(name: String, value: String)]
    /// Sent as the body with its Content-Length; nil sends none.
    package var body: [UInt8]?
    /// Sent instead of `body`, from the file, with its Content-Length. For PUT only; not empty.
    package var upload: UploadBody?
    package var timeouts: HTTPTimeouts
    /// True for addresses that only this machine may answer (instance metadata, 169.254.0.0/16): no proxy is asked.
    package var bypassesProxy: Bool

    package init(
        _ method: Method, _ url: String, headers: [(name: String, value: String)] = [], body: [UInt8]? = nil,
        timeouts: HTTPTimeouts = HTTPTimeouts(), bypassesProxy: Bool = false
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.timeouts = timeouts
        self.bypassesProxy = bypassesProxy
    }
}

/// How long each phase of a request may take before it fails with `HTTPError.Kind.timeout`. All are positive.
package struct HTTPTimeouts: Hashable, Sendable {
    /// Name resolution, TCP and TLS together. The wait for a free connection of the host's pool is not counted.
    package var connect: Duration
    /// From the last byte of the request being sent until the first byte of the answer.
    package var firstByte: Duration
    /// Without a single byte of body, sent or received.
    package var stall: Duration
    /// The whole request; nil for no bound (a body that keeps coming is fine).
    package var total: Duration?

    package init(
        connect: Duration = .seconds(5), firstByte: Duration = .seconds(15), stall: Duration = .seconds(15),
        total: Duration? = nil
    ) {
        self.connect = connect
        self.firstByte = firstByte
        self.stall = stall
        self.total = total
    }
}
