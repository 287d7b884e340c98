import Glibc

/// The kernel's request that this thread has read and is about to hand to libfuse, which does not tell its number.
enum CurrentRequest {
    /// Of a request that the kernel sends again (FUSE_UNIQUE_RESEND, Linux 6.9).
    private static let repeatedBit: UInt64 = 1 << 63

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key, nil)
        return key
    }()

    static func set(_ unique: UInt64) { pthread_setspecific(key, UnsafeRawPointer(bitPattern: UInt(unique))) }

    private static var unique: UInt64 { UInt64(UInt(bitPattern: pthread_getspecific(key))) }

    /// Unlike that of any other request of the connection, and the same when it is sent again. Within the callback only.
    static var number: UInt64 { unique & ~repeatedBit }
    /// A process before this one may have done what is asked for, but has not answered.
    static var isRepeated: Bool { unique & repeatedBit != 0 }
}
