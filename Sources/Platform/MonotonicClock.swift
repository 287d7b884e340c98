import Glibc

/// CLOCK_MONOTONIC in nanoseconds; for intervals and expiries within one boot.
package enum MonotonicClock {
    package static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// What `now()` will be after `delay`; now for a negative one, centuries ahead for one that does not fit.
    package static func time(after delay: Duration) -> UInt64 {
        let (seconds, attoseconds) = delay.components
        guard seconds >= 0, attoseconds >= 0 else { return now() }
        return now() + UInt64(min(seconds, 1 << 33)) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    }
}

extension FileTime {
    /// CLOCK_REALTIME.
    package static func now() -> FileTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return FileTime(seconds: Int64(time.tv_sec), nanoseconds: UInt32(time.tv_nsec))
    }
}

/// Puts this thread to sleep; for back-off on owned threads only.
@available(*, noasync, message: "blocks its thread; use Task.sleep")
package func pause(milliseconds: Int) { usleep(UInt32(milliseconds) * 1000) }

/// getpid(2).
package func processIdentifier() -> Int32 { getpid() }
