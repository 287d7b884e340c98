import CCurl
import Glibc
import Platform
import Synchronization

/// One request on its way through a `CurlLoop`. After `submit`, its state belongs to the loop's thread.
final class CurlTransfer: @unchecked Sendable {
    /// Bytes of all header fields together; S3 allows 8 KiB of metadata.
    private static let headerLimit = 256 << 10

    let request: HTTPRequest
    /// `https://host:port`, without path: what connections are counted by and error messages show.
    let host: String
    let isCancelled = Atomic<Bool>(false)
    var continuation: CheckedContinuation<Result<HTTPResponse, HTTPError>, Never>?
    private(set) var easy: OpaquePointer?
    /// CLOCK_MONOTONIC nanoseconds at which curl got it.
    var began: UInt64 = 0

    private let isLarge: Bool
    private let onHeaders: @Sendable (HTTPResponse) throws -> HTTPBodyDisposition
    private let onBody: @Sendable (UnsafeRawBufferPointer) throws -> Void

    private var response = HTTPResponse(status: 0)
    private var disposition: HTTPBodyDisposition?
    private var headerBytes = 0
    private var failure: HTTPError?
    private var received: UInt64 = 0
    // None yet, so that the first look at a transfer counts as progress.
    private var receivedAtProgress: UInt64 = .max
    private var progress: UInt64 = 0
    private var sentAtProgress: UInt64 = .max
    /// Bytes of the upload that curl has taken.
    private var taken: UInt64 = 0
    private var headerList: UnsafeMutablePointer<curl_slist>?
    private let errorBuffer = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))

    init(
        _ request: HTTPRequest, isLarge: Bool,
        onHeaders: @escaping @Sendable (HTTPResponse) throws -> HTTPBodyDisposition,
        onBody: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) {
        self.request = request
        self.isLarge = isLarge
        self.onHeaders = onHeaders
        self.onBody = onBody
        host = Self.origin(of: request.url)
        errorBuffer.initialize(to: 0)
    }

    deinit { errorBuffer.deallocate() }

    /// Scheme, host and port of a URL, without user name and path.
    static func origin(of url: String) -> String {
        let scheme = url.utf8.prefix { $0 != UInt8(ascii: ":") }
        let rest = url.utf8.dropFirst(scheme.count + 3)
        let authority = rest.prefix { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        let host =
            authority.lastIndex(of: UInt8(ascii: "@")).map { authority[authority.index(after: $0)...] } ?? authority
        return String(decoding: Array(scheme) + Array("://".utf8) + Array(host), as: UTF8.self)
    }

    func resume(_ result: Result<HTTPResponse, HTTPError>) {
        let waiting = continuation
        continuation = nil
        waiting?.resume(returning: result)
    }
}

extension CurlTransfer {
    /// Sets every option of the transfer on `easy` (curl_easy_setopt(3)). Returns why the request cannot be sent, if
    /// so.
    func prepare(_ easy: UnsafeMutableRawPointer, options: CurlTransport.Options) -> HTTPError? {
        self.easy = OpaquePointer(easy)
        let context = Unmanaged.passUnretained(self).toOpaque()  // the loop's table keeps it alive
        var codes: [CURLcode] = []
        func set(_ option: CURLoption, _ value: Int) { codes.append(larder_curl_set_long(easy, option, value)) }
        func set(_ option: CURLoption, _ value: String) { codes.append(larder_curl_set_string(easy, option, value)) }

        set(CURLOPT_URL, request.url)
        set(CURLOPT_PROTOCOLS_STR, "http,https")
        set(CURLOPT_PATH_AS_IS, 1)  // a key may contain "/../"; the signature covers the path as it is
        set(CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
        set(CURLOPT_FOLLOWLOCATION, 0)
        set(CURLOPT_NOSIGNAL, 1)
        set(CURLOPT_TCP_KEEPALIVE, 1)
        set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        set(CURLOPT_CONNECTTIMEOUT_MS, max(1, request.timeouts.connect.milliseconds))
        set(CURLOPT_BUFFERSIZE, isLarge ? 512 << 10 : 64 << 10)
        set(CURLOPT_USERAGENT, options.userAgent)
        if request.bypassesProxy {
            set(CURLOPT_PROXY, "")
        } else if let proxy = options.proxy {
            set(CURLOPT_PROXY, proxy)
        }
        if let caFile = options.caFile { set(CURLOPT_CAINFO, caFile) }
        set(CURLOPT_SSL_VERIFYPEER, options.verifiesTLS ? 1 : 0)
        set(CURLOPT_SSL_VERIFYHOST, options.verifiesTLS ? 2 : 0)

        switch request.method {
        case .get: set(CURLOPT_HTTPGET, 1)
        case .head: set(CURLOPT_NOBODY, 1)
        case .post, .put, .delete: set(CURLOPT_CUSTOMREQUEST, request.method.rawValue)
        }
        if let body = request.body {
            codes.append(larder_curl_set_size(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count)))
            codes.append(
                body.withUnsafeBytes { bytes in
                    let text = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
                    return larder_curl_set_string(easy, CURLOPT_COPYPOSTFIELDS, text ?? UnsafePointer(errorBuffer))
                })
            if request.method != .post { set(CURLOPT_CUSTOMREQUEST, request.method.rawValue) }
        }
        if let upload = request.upload { codes += prepare(upload, on: easy) }

        for header in request.headers {
            // "Name;" is curl's way to send a field without a value.
            headerList = curl_slist_append(
                headerList, header.value.isEmpty ? "\(header.name);" : "\(header.name): \(header.value)")
        }
        // curl would add these two on its own; "Name:" leaves a field out.
        headerList = curl_slist_append(headerList, "Expect:")
        if request.body != nil, !request.headers.contains(where: { HTTPHeaders.isEqual($0.name, "content-type") }) {
            headerList = curl_slist_append(headerList, "Content-Type:")
        }
        codes.append(larder_curl_set_list(easy, CURLOPT_HTTPHEADER, headerList))
        codes.append(larder_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, errorBuffer))

        codes.append(larder_curl_set_pointer(easy, CURLOPT_HEADERDATA, context))
        codes.append(
            larder_curl_set_on_data(easy, CURLOPT_HEADERFUNCTION) { bytes, size, count, context in
                Unmanaged<CurlTransfer>.fromOpaque(context!)._withUnsafeGuaranteedRef {
                    $0.receiveHeader(UnsafeRawBufferPointer(start: bytes, count: size * count))
                }
            })
        codes.append(larder_curl_set_pointer(easy, CURLOPT_WRITEDATA, context))
        codes.append(
            larder_curl_set_on_data(easy, CURLOPT_WRITEFUNCTION) { bytes, size, count, context in
                Unmanaged<CurlTransfer>.fromOpaque(context!)._withUnsafeGuaranteedRef {
                    $0.receiveBody(UnsafeRawBufferPointer(start: bytes, count: size * count))
                }
            })
        guard let failed = codes.first(where: { $0 != CURLE_OK }) else { return nil }
        return HTTPError(
            .badRequest, "\(host): curl refuses the request: \(String(cString: curl_easy_strerror(failed)))")
    }

    /// Frees what curl no longer needs.
    func dispose() {
        curl_slist_free_all(headerList)
        headerList = nil
        easy = nil
    }

    /// One header line as curl gives it; returns its length, or 0 to end the transfer.
    private func receiveHeader(_ line: UnsafeRawBufferPointer) -> Int {
        guard disposition == nil else { return line.count }  // a trailer
        headerBytes += line.count
        guard headerBytes <= Self.headerLimit else {
            return refuse(HTTPError(.malformed, "\(host) sent more than \(Self.headerLimit) bytes of headers"))
        }
        var text = line[...]
        while let last = text.last, last == 13 || last == 10 { text.removeLast() }
        if text.starts(with: "HTTP/".utf8) {
            let code = text.split(separator: UInt8(ascii: " "), maxSplits: 2).dropFirst().first
            let status = code.flatMap { Int(String(decoding: $0, as: UTF8.self)) }
            guard let status, (100...999).contains(status) else {
                return refuse(HTTPError(.malformed, "\(host) sent a malformed status line"))
            }
            response = HTTPResponse(status: status)
        } else if text.isEmpty {
            if response.status >= 200 { return beginBody() ? line.count : 0 }
        } else if let colon = text.firstIndex(of: UInt8(ascii: ":")) {
            let value = String(decoding: text[(colon + 1)...], as: UTF8.self)
            response.headers.append(String(decoding: text[..<colon], as: UTF8.self), value.trimmingBlanks())
        }
        return line.count
    }

    private func beginBody() -> Bool {
        do { disposition = try onHeaders(response) } catch {
            _ = refuse(HTTPError(.refused, "the answer of \(host) was refused"))
            return false
        }
        return true
    }

    private func receiveBody(_ bytes: UnsafeRawBufferPointer) -> Int {
        received += UInt64(bytes.count)
        switch disposition {
        case .stream:
            do { try onBody(bytes) } catch { return refuse(HTTPError(.refused, "the body from \(host) was refused")) }
        case .collect(let limit):
            guard response.body.count + bytes.count <= limit else {
                return refuse(HTTPError(.tooLarge, "\(host) sent a body of more than \(limit) bytes"))
            }
            response.body.append(contentsOf: bytes)
        case nil:
            return refuse(HTTPError(.malformed, "\(host) sent a body without headers"))
        }
        return bytes.count
    }

    /// Lets curl ask for the bytes of a file, in pieces as long as it takes them.
    private func prepare(_ upload: UploadBody, on easy: UnsafeMutableRawPointer) -> [CURLcode] {
        let context = Unmanaged.passUnretained(self).toOpaque()
        let buffer = min(max(upload.range.count, 16 << 10), 2 << 20)  // the bounds of curl
        return [
            larder_curl_set_long(easy, CURLOPT_UPLOAD, 1),
            larder_curl_set_string(easy, CURLOPT_CUSTOMREQUEST, request.method.rawValue),
            larder_curl_set_size(easy, CURLOPT_INFILESIZE_LARGE, curl_off_t(upload.range.count)),
            larder_curl_set_long(easy, CURLOPT_UPLOAD_BUFFERSIZE, buffer),
            larder_curl_set_pointer(easy, CURLOPT_READDATA, context),
            larder_curl_set_on_data(easy, CURLOPT_READFUNCTION) { bytes, size, count, context in
                Unmanaged<CurlTransfer>.fromOpaque(context!)._withUnsafeGuaranteedRef {
                    $0.sendBody(UnsafeMutableRawBufferPointer(start: bytes, count: size * count))
                }
            },
            larder_curl_set_pointer(easy, CURLOPT_SEEKDATA, context),
            larder_curl_set_on_seek(easy) { context, offset, origin in
                Unmanaged<CurlTransfer>.fromOpaque(context!)._withUnsafeGuaranteedRef {
                    $0.rewind(to: offset, from: origin)
                }
            },
        ]
    }

    private func sendBody(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
        guard let upload = request.upload else { return 0 }
        let count = min(buffer.count, Int(clamping: UInt64(upload.range.count) - taken))
        guard count > 0 else { return 0 }
        let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        let abort = Int(CURL_READFUNC_ABORT)
        do {
            guard try upload.file.read(into: piece, at: upload.range.lowerBound + taken) == count else {
                failure = failure ?? HTTPError(.source, "the file to be sent to \(host) was shortened meanwhile")
                return abort
            }
        } catch {
            failure = failure ?? HTTPError(.source, "the file to be sent to \(host) cannot be read: \(error)")
            return abort
        }
        taken += UInt64(count)
        return count
    }

    /// curl sends again on another connection when a kept one turns out to be dead.
    private func rewind(to offset: curl_off_t, from origin: CInt) -> CInt {
        guard let upload = request.upload, origin == SEEK_SET, offset >= 0, offset <= upload.range.count else {
            return CInt(CURL_SEEKFUNC_FAIL)
        }
        taken = UInt64(offset)
        return CInt(CURL_SEEKFUNC_OK)
    }

    /// Remembers why; the 0 makes curl end the transfer.
    private func refuse(_ error: HTTPError) -> Int {
        failure = failure ?? error
        return 0
    }
}

extension CurlTransfer {
    /// The timeout that has passed at `now` (CLOCK_MONOTONIC nanoseconds). The connect timeout is curl's own.
    func overdue(at now: UInt64) -> HTTPError? {
        if let total = request.timeouts.total, now - began > total.nanoseconds {
            return HTTPError(.timeout(.total), "\(host) has not completed its answer within \(total)")
        }
        if received + UInt64(headerBytes) > 0 {
            if received != receivedAtProgress {
                progress = now
                receivedAtProgress = received
            } else if now - progress > request.timeouts.stall.nanoseconds {
                return HTTPError(.timeout(.stall), "\(host) sent no byte of its answer for \(request.timeouts.stall)")
            }
            return nil
        }
        var microseconds: curl_off_t = 0  // until the request was about to be sent; 0 before
        guard let easy,
            larder_curl_get_size(UnsafeMutableRawPointer(easy), CURLINFO_PRETRANSFER_TIME_T, &microseconds) == CURLE_OK,
            microseconds > 0
        else { return nil }
        if request.upload != nil { return overdueUpload(on: easy, at: now) }
        guard now - began > UInt64(microseconds) * 1000 + request.timeouts.firstByte.nanoseconds else { return nil }
        return HTTPError(
            .timeout(.firstByte),
            "\(host) accepted the request but has not answered within \(request.timeouts.firstByte)")
    }

    /// While nothing has been answered: each byte sent counts as progress, and the answer is due after the last.
    private func overdueUpload(on easy: OpaquePointer, at now: UInt64) -> HTTPError? {
        var bytes: curl_off_t = 0
        _ = larder_curl_get_size(UnsafeMutableRawPointer(easy), CURLINFO_SIZE_UPLOAD_T, &bytes)
        let sent = UInt64(max(0, bytes))
        guard sent == sentAtProgress else {
            progress = now
            sentAtProgress = sent
            return nil
        }
        let (isSent, timeouts) = (sent >= UInt64(request.upload?.range.count ?? 0), request.timeouts)
        guard now - progress > (isSent ? timeouts.firstByte : timeouts.stall).nanoseconds else { return nil }
        guard isSent else {
            return HTTPError(.timeout(.stall), "\(host) took no byte of the request for \(timeouts.stall)")
        }
        return HTTPError(
            .timeout(.firstByte), "\(host) accepted the request but has not answered within \(timeouts.firstByte)")
    }

    /// What curl's result code means here (libcurl-errors(3)).
    func outcome(of code: CURLcode) -> Result<HTTPResponse, HTTPError> {
        if let failure { return .failure(failure) }
        if code == CURLE_OK {
            guard response.status >= 200 else { return .failure(HTTPError(.malformed, "\(host) sent no HTTP answer")) }
            return .success(response)
        }
        // A server that refuses an upload may close the connection before it has read all of it.
        if request.upload != nil, disposition != nil, response.status >= 300 { return .success(response) }
        let detail = String(cString: errorBuffer)
        let reason = detail.isEmpty ? String(cString: curl_easy_strerror(code)) : detail
        return .failure(HTTPError(Self.kind(of: code), "\(host): \(reason)"))
    }

    private static func kind(of code: CURLcode) -> HTTPError.Kind {
        switch code {
        case CURLE_COULDNT_RESOLVE_HOST: .resolve
        case CURLE_COULDNT_CONNECT, CURLE_INTERFACE_FAILED: .connect
        case CURLE_COULDNT_RESOLVE_PROXY, CURLE_PROXY: .proxy
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER,
            CURLE_SSL_ISSUER_ERROR, CURLE_SSL_INVALIDCERTSTATUS, CURLE_SSL_PINNEDPUBKEYNOTMATCH, CURLE_SSL_CLIENTCERT:
            .tls
        case CURLE_OPERATION_TIMEDOUT: .timeout(.connect)  // the only timeout that is curl's own
        case CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_GOT_NOTHING: .reset
        case CURLE_PARTIAL_FILE: .truncated
        case CURLE_FILESIZE_EXCEEDED: .tooLarge
        case CURLE_WRITE_ERROR, CURLE_ABORTED_BY_CALLBACK: .refused
        case CURLE_OUT_OF_MEMORY, CURLE_FAILED_INIT: .resources
        case CURLE_URL_MALFORMAT, CURLE_SSL_CACERT_BADFILE, CURLE_BAD_FUNCTION_ARGUMENT,
            CURLE_UNKNOWN_OPTION, CURLE_NOT_BUILT_IN, CURLE_SSL_ENGINE_NOTFOUND, CURLE_SSL_ENGINE_SETFAILED:
            .badRequest
        default: .malformed  // also CURLE_UNSUPPORTED_PROTOCOL, which curl gives for an answer that is no HTTP/1
        }
    }
}
