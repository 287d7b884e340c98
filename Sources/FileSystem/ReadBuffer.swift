import Glibc

/// A page-aligned buffer that each thread has for itself, so that a read allocates nothing.
package enum ReadBuffer {
    /// The largest FUSE read: 256 pages of 4 KiB.
    package static let size = 1 << 20

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key) { free($0) }
        return key
    }()

    /// This thread's buffer of `size` bytes; freed when the thread ends. What one use left in it is gone at the next.
    package static func current() -> UnsafeMutableRawBufferPointer {
        if let existing = pthread_getspecific(key) {
            return UnsafeMutableRawBufferPointer(start: existing, count: size)
        }
        let fresh = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
        pthread_setspecific(key, fresh.baseAddress)
        return fresh
    }
}
