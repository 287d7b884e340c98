import CLinux
import Glibc

/// The terminal behind a descriptor, if there is one.
package enum Terminal {
    package static func isTerminal(_ descriptor: CInt) -> Bool { isatty(descriptor) == 1 }

    /// Its width in columns; nil for a pipe or a file.
    package static func columns(_ descriptor: CInt) -> Int? {
        let columns = larder_terminal_columns(descriptor)
        return columns > 0 ? Int(columns) : nil
    }
}
