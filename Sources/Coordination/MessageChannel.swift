import Platform
import SwiftProtobuf
import SystemPackage

/// One end of a connection: whole envelopes with descriptors over a packet socket.
///
/// Any thread may send. One thread runs `receive` in a loop and must never block on a send of its own to the same peer:
/// two ends that only send would wait for each other.
package final class MessageChannel: Sendable {
    private let socket: PacketSocket

    package init(_ socket: PacketSocket) { self.socket = socket }

    /// Sends one envelope. Throws EMSGSIZE when it is longer than `PacketSocket.maximumMessage`, EPIPE when the peer has
    /// gone.
    package func send(_ envelope: WireEnvelope, descriptors: [Descriptor] = []) throws(Errno) {
        let bytes: [UInt8]
        do { bytes = try envelope.serializedBytes() } catch { throw .invalidArgument }
        guard bytes.count <= PacketSocket.maximumMessage else { throw .messageTooLong }
        do { try bytes.withUnsafeBytes { try socket.send($0, descriptors: descriptors) } } catch let error as Errno {
            throw error
        } catch { throw .ioError }
    }

    /// Waits for one envelope; nil when the peer has closed.
    /// Throws `.malformed` for bytes that are not an envelope, after which the connection must be closed.
    package func receive(
        using buffer: UnsafeMutableRawBufferPointer
    ) throws(ChannelError) -> (envelope: WireEnvelope, descriptors: [Descriptor])? {
        let (count, descriptors): (Int, [Descriptor])
        do { (count, descriptors) = try socket.receive(into: buffer) } catch {
            if error == .messageTooLong { throw .malformed("a message or its descriptors exceed the limits") }
            throw .socket(error)
        }
        guard count > 0 else { return nil }
        do {
            let envelope = try WireEnvelope(serializedBytes: [UInt8](buffer[0..<count]))
            return (envelope, descriptors)
        } catch { throw .malformed("\(count) bytes are not an envelope") }
    }

    package func peer() throws(Errno) -> PeerCredentials { try socket.peer() }

    /// Ends the connection; the thread in `receive` gets nil. Any thread.
    package func shutdown() { socket.shutdown() }
}

package enum ChannelError: Error, Hashable, Sendable, CustomStringConvertible {
    case socket(Errno)
    case malformed(String)

    package var description: String {
        switch self {
        case .socket(let error): "socket: \(error)"
        case .malformed(let reason): "malformed message: \(reason)"
        }
    }
}

/// The version of the protocol that this build speaks, and how it names itself.
package enum ProtocolVersion {
    package static let current: UInt32 = 1
}

/// The answer to a request was `Failure`, or never came.
package struct CoordinationError: Error, Hashable, Sendable, CustomStringConvertible {
    /// For the application.
    package let errno: Errno
    /// One line for a person.
    package let message: String

    package init(_ errno: Errno, _ message: String) {
        self.errno = errno
        self.message = message
    }

    package var description: String { message }

    /// The connection ended before an answer came.
    package static let disconnected = CoordinationError(.socketNotConnected, "the coordinator closed the connection")
}
