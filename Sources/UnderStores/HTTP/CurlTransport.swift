import CCurl
import Logging
import Platform

/// HTTP/1.1 over libcurl's multi interface on threads of its own (libcurl-multi(3)), with kept-alive connections.
///
/// TLS certificates are always verified unless `Options.verifiesTLS` is false. A redirect is an answer like any other.
/// Bodies go from curl's receive buffer straight to the caller's callback.
package final class CurlTransport: HTTPTransport {
    package struct Options: Sendable {
        /// Connections to one host at a time, over all threads; further requests wait in order of arrival. 1…
        package var connectionsPerHost = 32
        /// `http://host:port`, `socks5h://…`; nil for what the environment says (`https_proxy`, `no_proxy`, …).
        package var proxy: String?
        /// PEM file of the authorities to trust instead of the system's.
        package var caFile: String?
        /// False accepts any certificate: whoever sits on the network path can read and change everything.
        package var verifiesTLS = true
        /// Threads that move bytes. 1…
        package var threads = 2
        package var userAgent = "larder"

        package init() {}
    }

    private let loops: [CurlLoop]

    /// - Throws: `.resources` when curl cannot be set up, `.badRequest` when the CA file cannot be read.
    package init(options: Options = Options(), logger: Logger) throws(HTTPError) {
        guard Self.globalInitialization == CURLE_OK else {
            throw HTTPError(.resources, "libcurl cannot be initialized")
        }
        if let caFile = options.caFile, (try? Descriptor.open(caFile, 0)) == nil {
            throw HTTPError(.badRequest, "the CA file \(caFile) cannot be read")
        }
        if !options.verifiesTLS {
            logger.warning(
                "TLS certificates are NOT verified: anybody on the network path can read and change the data")
        }
        let threads = max(1, min(options.threads, options.connectionsPerHost))
        var loops: [CurlLoop] = []
        for index in 0..<threads {
            // The first loops take what does not divide evenly.
            let share = options.connectionsPerHost / threads + (index < options.connectionsPerHost % threads ? 1 : 0)
            loops.append(try CurlLoop(options: options, connectionsPerHost: share))
        }
        for (index, loop) in loops.enumerated() { startThread(named: "larder-curl-\(index)") { loop.run() } }
        self.loops = loops
    }

    deinit { for loop in loops { loop.stop() } }

    private static let globalInitialization = larder_curl_global_init()

    package func send(_ request: HTTPRequest, bodyLimit: Int) async throws(HTTPError) -> HTTPResponse {
        let transfer = CurlTransfer(
            request, isLarge: false, onHeaders: { _ in .collect(limit: bodyLimit) }, onBody: { _ in })
        return try await perform(transfer)
    }

    package func stream(
        _ request: HTTPRequest,
        onHeaders: @escaping @Sendable (HTTPResponse) throws -> HTTPBodyDisposition,
        onBody: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws(HTTPError) -> HTTPResponse {
        try await perform(CurlTransfer(request, isLarge: true, onHeaders: onHeaders, onBody: onBody))
    }

    private func perform(_ transfer: CurlTransfer) async throws(HTTPError) -> HTTPResponse {
        let loop = quietestLoop()
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                transfer.continuation = continuation
                loop.submit(transfer)
            }
        } onCancel: {
            loop.cancel(transfer)
        }
        return try result.get()
    }

    private func quietestLoop() -> CurlLoop {
        var best = loops[0]
        for loop in loops.dropFirst() where loop.load < best.load { best = loop }
        return best
    }
}
