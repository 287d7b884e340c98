/// Sends requests over kept-alive connections. Redirects are never followed: they are answers like any other.
///
/// Every call may be made from any task, many at once; cancelling the task ends the request with `.cancelled`.
package protocol HTTPTransport: Sendable {
    /// Sends `request` and collects the whole body.
    ///
    /// - Parameter bodyLimit: bytes; a longer body is `.tooLarge`.
    func send(_ request: HTTPRequest, bodyLimit: Int) async throws(HTTPError) -> HTTPResponse

    /// Sends `request` and hands the body over as it arrives, without copying it.
    ///
    /// Both callbacks run on the transport's thread, one at a time, and must not wait; they are not called any more
    /// once this function has returned. When one throws, the request ends with `.refused`.
    /// - Parameters:
    ///   - onHeaders: called once, before any byte of the body, with an answer whose body is empty; decides where the
    ///       body goes.
    ///   - onBody: called with each piece of a body that `onHeaders` wanted streamed; the buffer is valid during the
    ///       call only.
    /// - Returns: the answer, with the body when it was collected.
    func stream(
        _ request: HTTPRequest,
        onHeaders: @escaping @Sendable (HTTPResponse) throws -> HTTPBodyDisposition,
        onBody: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws(HTTPError) -> HTTPResponse
}

/// Where the body of an answer goes.
package enum HTTPBodyDisposition: Hashable, Sendable {
    /// To `onBody`.
    case stream
    /// Into the returned response; a body longer than `limit` bytes is `.tooLarge`. For error documents.
    case collect(limit: Int)
}
