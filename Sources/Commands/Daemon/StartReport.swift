import Glibc
import Platform

/// How a daemon tells its starter how it went: lines on a pipe that only the two have.
///
/// A process that dies without a word closes the pipe, so that the starter never waits for nothing.
package struct StartReporter: Sendable {
    private let descriptor: Descriptor?

    /// - Parameter number: the descriptor that was inherited (`--status-fd`); nil reports to nobody.
    package init(number: Int32?) {
        descriptor = number.map { number in
            // What the daemon starts in turn must not keep the pipe open.
            _ = fcntl(number, F_SETFD, FD_CLOEXEC)
            return Descriptor(owning: number)
        }
    }

    package init(_ descriptor: Descriptor) { self.descriptor = descriptor }

    /// Something that the user should know, and that is no failure.
    package func note(_ text: String) { send("note \(text)") }
    package func ready() { send("ready") }
    package func failed(_ failure: CommandFailure) { send("failed \(failure.code) \(failure.message)") }

    private func send(_ line: String) {
        guard let descriptor else { return }
        var text = line.split(whereSeparator: \.isNewline).joined(separator: " ") + "\n"
        text.withUTF8 { buffer in
            // One write, far below PIPE_BUF in practice; a starter that has gone misses it.
            _ = Glibc.write(descriptor.raw, buffer.baseAddress, buffer.count)
        }
    }
}

/// The starter's end.
package enum StartReport {
    /// Waits until the daemon is ready.
    /// - Parameters:
    ///   - reading: the only reading end; nobody else may hold the writing end.
    ///   - name: of the daemon, and `log`, where it writes: for a daemon that dies without a word.
    /// - Throws: what the daemon reported, or software.
    @available(*, noasync, message: "blocks its thread")
    package static func wait(
        _ reading: Descriptor, name: String, log: String, onNote: (String) -> Void
    ) throws(CommandFailure) {
        var pending: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = Glibc.read(reading.raw, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                throw CommandFailure(.software, "the \(name) ended before it was ready: see \(log)")
            }
            pending += chunk.prefix(count)
            while let newline = pending.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: pending[..<newline], as: UTF8.self)
                pending.removeFirst(newline + 1)
                if try isReady(line, onNote) { return }
            }
        }
    }

    private static func isReady(_ line: String, _ onNote: (String) -> Void) throws(CommandFailure) -> Bool {
        let words = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
        let rest = words.count > 1 ? String(words[1]) : ""
        switch words.first {
        case "ready": return true
        case "failed":
            throw CommandFailure(reported: rest)
        default: onNote(rest)
        }
        return false
    }
}

extension CommandFailure {
    /// As `StartReporter.failed` wrote it: the code and the message.
    init(reported text: String) {
        let parts = text.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
        let code = parts.first.flatMap { Int32($0) } ?? ExitStatus.software.rawValue
        self.init(code: code, message: parts.count > 1 ? String(parts[1]) : text)
    }
}
