/// Why no complete answer came, classified by what the transport library reported. An answer with an error status is
/// not an `HTTPError`.
package struct HTTPError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Phase: String, Hashable, Sendable {
        case connect
        case firstByte
        case stall
        case total
    }

    package enum Kind: Hashable, Sendable {
        /// The host's name is unknown or the resolver does not answer.
        case resolve
        /// Nobody listens there, or there is no route.
        case connect
        /// The proxy is unknown or refuses.
        case proxy
        /// The handshake failed, or the certificate is not of this host or not trusted.
        case tls
        case timeout(Phase)
        /// The connection broke before the answer was complete.
        case reset
        /// The connection was closed properly, but before the promised length.
        case truncated
        /// The answer is longer than the caller's limit.
        case tooLarge
        /// What came is not HTTP.
        case malformed
        /// The request itself cannot be sent: bad URL, bad option, bad CA file.
        case badRequest
        /// The caller's callback threw.
        case refused
        /// The file to be sent cannot be read, or is shorter than what was to be sent of it.
        case source
        /// The calling task was cancelled.
        case cancelled
        /// This machine lacks memory or descriptors.
        case resources
    }

    package let kind: Kind
    /// One line: what happened, with host and port, without any header or query.
    package let message: String

    package init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    package var description: String { message }

    /// Whether the same request may succeed when it is sent again.
    package var isTransient: Bool {
        switch kind {
        case .resolve, .connect, .proxy, .timeout, .reset, .truncated, .malformed, .resources: true
        case .tls, .tooLarge, .badRequest, .refused, .source, .cancelled: false
        }
    }
}
