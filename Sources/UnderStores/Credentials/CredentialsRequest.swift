/// Sends a small request to a service that gives out credentials, a few times if need be.
struct CredentialsRequest: Sendable {
    let transport: any HTTPTransport
    /// Names the service in errors.
    let service: String
    /// 1…
    var attempts = 3

    /// Documents with credentials have some 2 KiB.
    private static let bodyLimit = 256 << 10

    /// Returns the first answer that is neither 429 nor 5xx, or the last answer.
    ///
    /// - Throws: `.unavailable` when no answer came, `.invalid` when none can come, `.cancelled`.
    func send(_ request: HTTPRequest) async throws(StoreError) -> HTTPResponse {
        var attempt = 1
        while true {
            do throws(HTTPError) {
                let response = try await transport.send(request, bodyLimit: Self.bodyLimit)
                guard response.status == 429 || response.status >= 500, attempt < attempts else { return response }
            } catch {
                if error.kind == .cancelled { throw .cancelled }
                guard error.isTransient, attempt < attempts else {
                    let kind: StoreError.Kind = error.isTransient ? .unavailable : .invalid
                    throw StoreError(kind, "\(service) does not answer: \(error)")
                }
            }
            do { try await Task.sleep(for: .milliseconds(100 * (1 << attempt))) } catch { throw .cancelled }
            attempt += 1
        }
    }

    /// The error for an answer that should have been a success.
    func refusal(_ response: HTTPResponse, _ hint: String = "") -> StoreError {
        let isOutage = response.status == 429 || response.status >= 500
        return StoreError(
            isOutage ? .unavailable : .accessDenied,
            "\(service) answered with status \(response.status)\(hint.isEmpty ? "" : "; \(hint)")")
    }
}
