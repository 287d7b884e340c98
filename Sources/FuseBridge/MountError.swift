/// Why a mount or unmount failed: one line for a person, and an exit code of sysexits.h.
package struct MountError: Error, Hashable, Sendable, CustomStringConvertible {
    /// EX_USAGE 64, EX_NOINPUT 66, EX_UNAVAILABLE 69, EX_OSERR 71, EX_CANTCREAT 73, EX_NOPERM 77.
    package let exitCode: Int32
    /// What failed, on what, and what to do.
    package let message: String

    package init(_ exitCode: Int32, _ message: String) {
        self.exitCode = exitCode
        self.message = message
    }

    package var description: String { message }

    static let usage: Int32 = 64
    static let noInput: Int32 = 66
    static let unavailable: Int32 = 69
    static let system: Int32 = 71
    static let noPermission: Int32 = 77
}
