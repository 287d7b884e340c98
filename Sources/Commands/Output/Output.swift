import Glibc
import Platform

/// Where a command writes: data for people or programs, and lines about the work. Tests collect both.
package struct Output: Sendable {
    package let write: @Sendable (String) -> Void
    package let note: @Sendable (String) -> Void
    /// The width of the terminal that `note` goes to; nil when it is no terminal.
    package let terminalColumns: Int?

    package init(
        write: @escaping @Sendable (String) -> Void, note: @escaping @Sendable (String) -> Void,
        terminalColumns: Int? = nil
    ) {
        self.write = write
        self.note = note
        self.terminalColumns = terminalColumns
    }

    /// Standard output and standard error of this process.
    package static func standard() -> Output {
        Output(
            write: { writeAll($0, to: STDOUT_FILENO) }, note: { writeAll($0, to: STDERR_FILENO) },
            terminalColumns: Terminal.columns(STDERR_FILENO))
    }

    package func line(_ text: String) { write(text + "\n") }
    package func noteLine(_ text: String) { note(text + "\n") }

    private static func writeAll(_ text: String, to descriptor: CInt) {
        var text = text
        text.withUTF8 { buffer in
            var rest = UnsafeRawBufferPointer(buffer)
            while !rest.isEmpty {
                let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
                if count >= 0 {
                    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
                } else if errno != EINTR {
                    return  // nobody reads any more; SIGPIPE ends a pipeline before this
                }
            }
        }
    }
}
