import Glibc
import Platform
import Synchronization

/// A blocking TCP socket of 127.0.0.1, for servers that tests script themselves.
package final class TCPSocket: Sendable {
    private let descriptor: Descriptor
    /// Of a listening socket.
    package let port: UInt16
    private let resets = Atomic<Bool>(false)

    private init(_ descriptor: Descriptor, port: UInt16) {
        self.descriptor = descriptor
        self.port = port
    }

    private static func make() throws -> Descriptor {
        let raw = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { throw TestSetupError("socket: \(String(cString: strerror(errno)))") }
        var one: CInt = 1
        setsockopt(raw, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<CInt>.size))
        setsockopt(raw, CInt(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<CInt>.size))
        return Descriptor(owning: raw)
    }

    private static func address(port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }

    private static func withAddress<Result>(
        _ value: inout sockaddr_in, _ body: (UnsafeMutablePointer<sockaddr>) -> Result
    ) -> Result {
        withUnsafeMutablePointer(to: &value) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1, body) }
    }

    /// - Parameters:
    ///   - port: 0 for any that is free.
    ///   - backlog: connections that may wait to be accepted (listen(2)).
    package static func listen(port: UInt16 = 0, backlog: CInt = 128) throws -> TCPSocket {
        let descriptor = try make()
        var address = address(port: port)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        guard withAddress(&address, { bind(descriptor.raw, $0, length) }) == 0,
            Glibc.listen(descriptor.raw, backlog) == 0,
            withAddress(&address, { getsockname(descriptor.raw, $0, &length) }) == 0
        else { throw TestSetupError("bind or listen: \(String(cString: strerror(errno)))") }
        return TCPSocket(descriptor, port: UInt16(bigEndian: address.sin_port))
    }

    /// - Parameter waits: false returns with the connection still being made.
    package static func connect(port: UInt16, waits: Bool = true) throws -> TCPSocket {
        let descriptor = try make()
        if !waits { _ = fcntl(descriptor.raw, F_SETFL, O_NONBLOCK) }
        var address = address(port: port)
        let result = withAddress(&address) {
            Glibc.connect(descriptor.raw, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
        guard result == 0 || (!waits && errno == EINPROGRESS) else {
            throw TestSetupError("connect to port \(port): \(String(cString: strerror(errno)))")
        }
        return TCPSocket(descriptor, port: port)
    }

    /// nil once `shutDown` was called.
    package func accept() -> TCPSocket? {
        while true {
            let raw = Glibc.accept(descriptor.raw, nil, nil)
            if raw >= 0 { return TCPSocket(Descriptor(owning: raw), port: port) }
            if errno != EINTR, errno != ECONNABORTED { return nil }
        }
    }

    /// Up to 64 KiB; empty at the end of the stream or after an error.
    package func receive() -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = buffer.withUnsafeMutableBytes { recv(descriptor.raw, $0.baseAddress, $0.count, 0) }
        return count > 0 ? Array(buffer.prefix(count)) : []
    }

    /// False when the peer is gone.
    @discardableResult
    package func send(_ bytes: some Sequence<UInt8>) -> Bool {
        let bytes = Array(bytes)
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor.raw, $0.baseAddress! + sent, bytes.count - sent, CInt(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }

    /// Ends both directions; a blocked `accept` or `receive` of another thread returns.
    package func shutDown() { shutdown(descriptor.raw, CInt(SHUT_RDWR)) }

    var closesByReset: Bool { resets.load(ordering: .relaxed) }

    /// Makes the close of this socket a TCP reset.
    package func resetOnClose() {
        resets.store(true, ordering: .relaxed)
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor.raw, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    }
}
