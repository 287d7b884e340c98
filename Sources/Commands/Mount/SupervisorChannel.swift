import FileSystem
import Glibc
import Platform
import SystemPackage

/// The socket between a mount's supervisor and the process that serves the mount: short lines, the first two with descriptors.
///
/// The supervisor begins with `begin` and the session's memory, and the FUSE connection when there is one already; the process
/// says `watching` when it takes signals, `mounted` with the connection that it has made, and as a `StartReporter` how it went; at
/// the very end `unmounted`. Without that word its end is a death.
final class SupervisorChannel: Sendable {
    private let socket: PacketSocket
    let report: StartReporter

    /// - Parameter number: the descriptor that was inherited.
    init(inherited number: Int32) {
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        let descriptor = Descriptor(owning: number)
        socket = PacketSocket(descriptor)
        report = StartReporter(descriptor)
    }

    init(_ socket: PacketSocket, _ report: StartReporter) {
        self.socket = socket
        self.report = report
    }

    struct Message {
        let text: String
        let descriptors: [Descriptor]
    }

    /// Waits for the next line. nil: the other end is gone.
    func receive() -> Message? {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let received: Result<(count: Int, descriptors: [Descriptor]), Errno> = buffer.withUnsafeMutableBytes {
                bytes in
                do throws(Errno) { return .success(try socket.receive(into: bytes)) } catch { return .failure(error) }
            }
            switch received {
            case .failure(.interrupted): continue
            case .failure: return nil
            case .success(let message):
                guard message.count > 0 else { return nil }
                let text = String(decoding: buffer[..<message.count], as: UTF8.self)
                return Message(
                    text: text.hasSuffix("\n") ? String(text.dropLast()) : text, descriptors: message.descriptors)
            }
        }
    }

    /// Ends `receive`, whatever becomes of the other end.
    func end() { socket.shutdown() }

    /// Nothing happens when the other end is gone.
    func send(_ text: String, _ descriptors: [Descriptor] = []) {
        try? Array(text.utf8).withUnsafeBytes { try socket.send($0, descriptors: descriptors) }
    }
}
