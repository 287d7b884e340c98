/// Checks of the URLs in a configuration. Their text never goes into an error: it may hold a password.
enum HTTPAddress {
    /// `http://host[:port]` or https, without a trailing slash.
    static func normalize(_ text: String) throws(CommandFailure) -> String {
        let (scheme, rest) = try split(text, schemes: ["http", "https"], example: "https://s3.example.com:9000")
        guard !rest.contains("@") else {
            throw CommandFailure(.usage, "holds a user name or password: credentials come from the AWS chain instead")
        }
        guard !rest.contains("?"), !rest.contains("#") else {
            throw CommandFailure(.usage, "has a query or fragment: write only scheme, host and port")
        }
        try checkHost(rest)
        var end = rest[...]
        while end.last == "/" { end.removeLast() }
        guard !end.contains("/") else {
            throw CommandFailure(.usage, "has a path: write only scheme, host and port")
        }
        return "\(scheme)://\(end)"
    }

    static func normalizeProxy(_ text: String) throws(CommandFailure) -> String {
        let schemes = ["http", "https", "socks4", "socks5", "socks5h"]
        let (scheme, rest) = try split(text, schemes: schemes, example: "http://proxy.example.com:3128")
        try checkHost(rest.split(separator: "@", omittingEmptySubsequences: false).last.map(String.init) ?? "")
        return "\(scheme)://\(rest)"
    }

    private static func split(
        _ text: String, schemes: [String], example: String
    ) throws(CommandFailure) -> (scheme: String, rest: String) {
        guard let colon = text.firstIndex(of: ":"), text[colon...].hasPrefix("://") else {
            throw CommandFailure(.usage, "is not a URL: write for instance \(example)")
        }
        let scheme = text[..<colon].lowercased()
        guard schemes.contains(scheme) else {
            throw CommandFailure(.usage, "has the scheme \(scheme): use \(schemes.joined(separator: " or "))")
        }
        let rest = String(text[colon...].dropFirst(3))
        guard !rest.contains(where: { $0.isWhitespace }), rest.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f }) else {
            throw CommandFailure(.usage, "holds a space or control character")
        }
        return (scheme, rest)
    }

    /// `host`, `host:port`, `[v6]:port`, each with a path or not.
    private static func checkHost(_ rest: String) throws(CommandFailure) {
        let authority = rest.prefix { $0 != "/" }
        var port: Substring?
        var host = authority
        if authority.hasPrefix("[") {
            guard let close = authority.firstIndex(of: "]") else {
                throw CommandFailure(.usage, "has an IPv6 address without its closing bracket")
            }
            host = authority[...close]
            let after = authority[authority.index(after: close)...]
            if !after.isEmpty { port = after.dropFirst(after.first == ":" ? 1 : 0) }
        } else if let colon = authority.firstIndex(of: ":") {
            host = authority[..<colon]
            port = authority[authority.index(after: colon)...]
        }
        guard !host.isEmpty else { throw CommandFailure(.usage, "names no host") }
        if let port, UInt16(port) == nil || UInt16(port) == 0 {
            throw CommandFailure(.usage, "has the port \"\(port)\": a port is a number between 1 and 65535")
        }
    }
}
