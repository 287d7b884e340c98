import CLinux

/// How many descriptors this process may have (RLIMIT_NOFILE); UInt64.max is no limit.
package enum OpenFilesLimit {
    package static func current() -> (soft: UInt64, hard: UInt64) {
        var soft: UInt64 = 0
        var hard: UInt64 = 0
        _ = larder_open_files_limit(&soft, &hard)
        return (soft, hard)
    }

    /// Raises the soft limit to the hard one, as a daemon that holds many files should: the soft limit of 1024 is there
    /// for programs that use select(2).
    package static func raise() { _ = larder_raise_open_files_limit() }
}
