import CLinux
import Glibc
import SystemPackage

/// Who is at the other end of a Unix socket (SO_PEERCRED, unix(7)), fixed when the connection was made.
package struct PeerCredentials: Hashable, Sendable {
    package let pid: Int32
    package let uid, gid: UInt32

    package init(pid: Int32, uid: UInt32, gid: UInt32) {
        self.pid = pid
        self.uid = uid
        self.gid = gid
    }
}

/// A connected Unix SOCK_SEQPACKET socket: whole messages in order, each with up to `maximumDescriptors` descriptors.
///
/// Any thread may send; one thread at a time receives.
package final class PacketSocket: Sendable {
    /// The longest message in bytes. The kernel holds each in one buffer, bounded by net.core.wmem_max (208 KiB by default).
    package static let maximumMessage = 128 << 10
    package static let maximumDescriptors = 16

    /// The socket itself, for a program that is started with it.
    package let descriptor: Descriptor

    package init(_ descriptor: Descriptor) { self.descriptor = descriptor }

    /// Connects to the listener at `path`. Throws ENOENT or ECONNREFUSED when there is none.
    package static func connect(to path: String) throws(Errno) -> PacketSocket {
        PacketSocket(Descriptor(owning: try Errno.check(larder_unix_connect(path))))
    }

    /// Two sockets connected to each other.
    package static func pair() throws(Errno) -> (PacketSocket, PacketSocket) {
        var raw: [CInt] = [0, 0]
        _ = try Errno.check(larder_unix_pair(&raw))
        return (PacketSocket(Descriptor(owning: raw[0])), PacketSocket(Descriptor(owning: raw[1])))
    }

    package func peer() throws(Errno) -> PeerCredentials {
        var pid: Int32 = 0
        var uid: UInt32 = 0
        var gid: UInt32 = 0
        _ = try Errno.check(larder_peer_credentials(descriptor.raw, &pid, &uid, &gid))
        return PeerCredentials(pid: pid, uid: uid, gid: gid)
    }

    /// Sends one message; blocks while the peer's buffer is full. Throws EPIPE when the peer is gone.
    package func send(_ bytes: UnsafeRawBufferPointer, descriptors: [Descriptor] = []) throws(Errno) {
        let raw = descriptors.map(\.raw)
        _ = try Errno.check(larder_send(self.descriptor.raw, bytes.baseAddress, bytes.count, raw, raw.count))
        withExtendedLifetime(descriptors) {}
    }

    /// Waits for one message and copies it into `buffer`. Returns its length (0: the peer has closed) and descriptors.
    /// Throws EMSGSIZE for a message longer than the buffer, whose descriptors are closed.
    package func receive(
        into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> (count: Int, descriptors: [Descriptor]) {
        var raw = [CInt](repeating: -1, count: Self.maximumDescriptors)
        var count = 0
        let length = try Errno.check(
            larder_receive(descriptor.raw, buffer.baseAddress, buffer.count, &raw, raw.count, &count))
        return (length, raw.prefix(count).map { Descriptor(owning: $0) })
    }

    /// Ends the connection in both directions: a thread in `receive` returns with count 0. Any thread.
    package func shutdown() { _ = Glibc.shutdown(descriptor.raw, CInt(SHUT_RDWR)) }
}

/// A listening Unix SOCK_SEQPACKET socket.
package final class PacketListener: Sendable {
    private let descriptor: Descriptor
    package let path: String

    /// Binds and listens at `path`, which must not exist. Throws EADDRINUSE, ENAMETOOLONG (over 107 bytes), EACCES, ….
    package init(path: String) throws(Errno) {
        descriptor = Descriptor(owning: try Errno.check(larder_unix_listen(path, 128)))
        self.path = path
    }

    /// Waits for one connection. Throws EINVAL after `close`.
    package func accept() throws(Errno) -> PacketSocket {
        PacketSocket(Descriptor(owning: try Errno.check(larder_unix_accept(descriptor.raw))))
    }

    /// Stops listening and removes the socket file; a thread in `accept` gets EINVAL.
    package func close() {
        _ = unlink(path)
        _ = shutdown(descriptor.raw, CInt(SHUT_RDWR))
    }
}
