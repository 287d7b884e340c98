/// Exit codes of sysexits.h: what scripts and systemd read instead of the text.
package enum ExitStatus: Int32, Sendable {
    case usage = 64
    /// The input data was wrong: a path that is not in a Larder mount, a store that breaks its contract.
    case dataError = 65
    /// A file or directory that the user named is missing or unreadable.
    case noInput = 66
    case noHost = 68
    /// A service (the coordinator, the store) cannot be reached.
    case unavailable = 69
    case software = 70
    /// The operating system refused: no /dev/fuse, no more processes.
    case osError = 71
    case cannotCreate = 73
    case inputOutput = 74
    /// Try again later: the mount point is busy.
    case temporaryFailure = 75
    case protocolError = 76
    case noPermission = 77
    /// The configuration is wrong.
    case configuration = 78
    /// Ended by SIGINT, as a shell reports it.
    case interrupted = 130
}

/// Why a command stops: one line that says what failed, on what, and what to do, and the exit code.
package struct CommandFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// One of `ExitStatus`, or what a child process ended with.
    package let code: Int32
    package let message: String

    package init(_ status: ExitStatus, _ message: String) { self.init(code: status.rawValue, message: message) }

    /// Line breaks become spaces, so that what is printed stays one line whatever a library put into its message.
    package init(code: Int32, message: String) {
        self.code = code
        self.message = message.split(whereSeparator: \.isNewline).joined(separator: " ")
    }

    package var description: String { message }
}
