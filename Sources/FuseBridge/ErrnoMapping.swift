import Glibc
import SystemPackage

/// The one place where an error becomes the number that the kernel gets.
enum ErrnoMapping {
    /// The number for the application.
    static func number(for error: Errno) -> CInt {
        switch error {
        // To the kernel ENOSYS means "never ask for this operation again".
        case .noFunction: EOPNOTSUPP
        // Of our socket, not of the application's.
        case .socketNotConnected, .brokenPipe, .connectionReset, .connectionRefused, .connectionAbort: EIO
        // A reply too large for one message, or of the wrong kind: ours to repair, nothing an application could act on.
        case .messageTooLong, .protocolError: EIO
        // Everything else is the coordinator's word; the kernel refuses replies outside its range.
        case _ where (1..<512).contains(error.rawValue): error.rawValue
        case _: EIO
        }
    }
}
