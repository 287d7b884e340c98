import Platform

/// Buffers of one run each, used again: the kernel gives fresh memory page by page and zeroed, which costs a fetch more
/// than copying into it does.
final class RunBufferPool: Sendable {
    /// What is kept while no fetch runs: as many as one reader's window has fetches under way.
    private static let kept = 8
    private let idle = Lock<[UnsafeMutableRawBufferPointer]>([])

    deinit { for buffer in idle.withLock({ $0 }) { buffer.deallocate() } }

    /// A buffer of `count` bytes, aligned to pages; a short one is not worth keeping. Any thread.
    func take(_ count: Int) -> UnsafeMutableRawBufferPointer {
        guard count == FetchSink.runLength else { return .allocate(byteCount: count, alignment: 4096) }
        return idle.withLock { $0.popLast() } ?? .allocate(byteCount: count, alignment: 4096)
    }

    func giveBack(_ buffer: UnsafeMutableRawBufferPointer) {
        let isKept = idle.withLock { idle in
            guard buffer.count == FetchSink.runLength, idle.count < Self.kept else { return false }
            idle.append(buffer)
            return true
        }
        if !isKept { buffer.deallocate() }
    }
}
