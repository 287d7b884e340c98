import UnderStores

/// Reads HTTP/1.1 messages from a socket; just enough for scripted servers.
struct HTTPMessageReader {
    struct Message {
        var startLine: String
        var headers: HTTPHeaders
        var body: [UInt8]
    }

    private let socket: TCPSocket
    /// The method that answers are to; nil when requests are read.
    private let method: String?
    private var buffer: [UInt8] = []

    init(_ socket: TCPSocket, answersTo method: String? = nil) {
        self.socket = socket
        self.method = method
    }

    /// nil at the end of the stream.
    mutating func next() -> Message? {
        guard let end = fill(until: Array("\r\n\r\n".utf8)) else { return nil }
        let lines = String(decoding: buffer[..<end], as: UTF8.self).split(separator: "\r\n")
        buffer.removeFirst(end + 4)
        guard let startLine = lines.first else { return nil }
        var headers = HTTPHeaders()
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { return nil }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            headers.append(String(line[..<colon]), String(value))
        }
        var message = Message(startLine: String(startLine), headers: headers, body: [])
        if method == "HEAD" { return message }
        if headers["transfer-encoding"]?.lowercased() == "chunked" {
            guard let body = chunkedBody() else { return nil }
            message.body = body
        } else if let length = headers["content-length"].flatMap({ Int($0) }) {
            while buffer.count < length, receive() {}
            message.body = Array(buffer.prefix(length))
            buffer.removeFirst(min(length, buffer.count))
        } else if method != nil {
            while receive() {}
            message.body = buffer
            buffer = []
        }
        return message
    }

    private mutating func chunkedBody() -> [UInt8]? {
        var body: [UInt8] = []
        while true {
            guard let end = fill(until: Array("\r\n".utf8)),
                let size = Int(
                    String(decoding: buffer[..<end].prefix { $0 != UInt8(ascii: ";") }, as: UTF8.self), radix: 16)
            else { return nil }
            while buffer.count < end + 2 + size + 2 {
                guard receive() else { return nil }
            }
            body += buffer[(end + 2)..<(end + 2 + size)]
            buffer.removeFirst(end + 2 + size + 2)
            if size == 0 { return body }
        }
    }

    /// The offset of `mark` in the buffer.
    private mutating func fill(until mark: [UInt8]) -> Int? {
        while true {
            if buffer.count >= mark.count {
                for start in 0...(buffer.count - mark.count)
                where buffer[start..<(start + mark.count)].elementsEqual(mark) {
                    return start
                }
            }
            guard receive() else { return nil }
        }
    }

    private mutating func receive() -> Bool {
        let bytes = socket.receive()
        buffer += bytes
        return !bytes.isEmpty
    }
}
