import CLinux
import SystemPackage

/// The file system identity of a thread (credentials(7)): as whom the kernel checks what the thread does to files, and to
/// whom it gives what the thread creates.
package enum ThreadIdentity {
    /// Capabilities by their bits (linux/capability.h).
    package struct Capabilities: OptionSet, Sendable {
        package let rawValue: UInt64
        package init(rawValue: UInt64) { self.rawValue = rawValue }
        package static let overrideAccess = Capabilities(rawValue: 1 << 1)  // CAP_DAC_OVERRIDE
        package static let searchAnywhere = Capabilities(rawValue: 1 << 2)  // CAP_DAC_READ_SEARCH
        package static let keepSetID = Capabilities(rawValue: 1 << 4)  // CAP_FSETID
        package static let makeDevices = Capabilities(rawValue: 1 << 27)  // CAP_MKNOD
        package static let all = Capabilities(rawValue: .max)
    }

    /// Whether this thread may take other identities (CAP_SETUID, CAP_SETGID).
    package static var isChangeable: Bool { Machine.hasCapability(7) && Machine.hasCapability(6) }

    /// Runs `body` on this thread with another identity, without supplementary groups, and gives the thread its own back.
    /// No other thread is affected.
    ///
    /// - Parameter capabilities: of the thread's own effective capabilities, those that it keeps meanwhile.
    /// - Throws: EPERM when the thread may not do so; what `body` throws.
    @available(*, noasync, message: "changes its thread")
    package static func with<Result>(
        uid: UInt32, gid: UInt32, keeping capabilities: Capabilities, _ body: () throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var saved: OpaquePointer?
        _ = try Errno.check(larder_identity_take(uid, gid, capabilities.rawValue, &saved))
        defer { larder_identity_return(saved) }
        return try body()
    }
}
