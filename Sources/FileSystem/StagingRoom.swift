import Platform
import Synchronization
import SystemPackage

/// How far a staged file may grow, and who waits until it may grow further.
///
/// Room is asked for ahead, when half of the last grant is used up, so that a sequential writer seldom waits.
final class StagingRoom: Sendable {
    typealias Waiter = @Sendable (Errno?) -> Void

    enum Admission {
        case granted
        /// Granted; the caller asks for so many bytes more.
        case grantedAsking(bytes: UInt64)
        case wait
        /// Wait; the caller asks.
        case waitAsking(bytes: UInt64)
    }
    private struct State {
        var isAsking = false
        var waiting: [(end: UInt64, waiter: Waiter)] = []
    }

    /// The least that is asked for: one message for so many bytes costs less than to write them.
    static let smallest: UInt64 = 128 << 10

    /// What is asked for at once: as much as the open granted, because that fits the disk that the file is on.
    private let chunk: Atomic<UInt64>

    /// The size that the file may have.
    private let limit: Atomic<UInt64>
    /// A file that grows beyond it should ask.
    private let threshold: Atomic<UInt64>
    private let state = Lock(State())

    /// - Parameters:
    ///   - size: of the file now.
    ///   - room: nil when it may grow without asking.
    init(size: UInt64, room: UInt64?) {
        chunk = Atomic(max(room ?? 0, Self.smallest))
        limit = Atomic(room.map { size &+ $0 } ?? .max)
        threshold = Atomic(room.map { size &+ $0 / 2 } ?? .max)
    }

    /// The file of a predecessor is open again, with room of its own to grow.
    func resume(size: UInt64, room: UInt64) {
        state.withLock { _ in
            chunk.store(max(room, Self.smallest), ordering: .relaxed)
            limit.store(size &+ room, ordering: .relaxed)
            threshold.store(size &+ room / 2, ordering: .relaxed)
        }
    }

    /// Whether the file may have bytes up to `end` without a look at anything else.
    @inline(__always)
    func admits(_ end: UInt64) -> Bool { end <= threshold.load(ordering: .relaxed) }

    /// Asks for bytes up to `end`. The waiter is called once, only after `.wait` and `.waitAsking`; without one, nothing
    /// waits and nothing is to be asked for then.
    func admit(_ end: UInt64, _ waiter: Waiter?) -> Admission {
        state.withLock { state in
            let limit = limit.load(ordering: .relaxed)
            let bytes = max(chunk.load(ordering: .relaxed), end > limit ? end - limit : 0)
            if end <= limit {
                guard end > threshold.load(ordering: .relaxed), !state.isAsking else { return .granted }
                state.isAsking = true
                return .grantedAsking(bytes: bytes)
            }
            guard let waiter else { return .wait }
            state.waiting.append((end, waiter))
            guard !state.isAsking else { return .wait }
            state.isAsking = true
            return .waitAsking(bytes: bytes)
        }
    }

    /// The answer to what was asked. Returns who goes on, and how much to ask for next because others still wait.
    func granted(_ bytes: UInt64) -> (waiters: [Waiter], next: UInt64?) {
        state.withLock { state in
            let limit = limit.load(ordering: .relaxed) + bytes
            self.limit.store(limit, ordering: .relaxed)
            threshold.store(limit - bytes / 2, ordering: .relaxed)
            let ready = state.waiting.filter { $0.end <= limit }.map(\.waiter)
            state.waiting.removeAll { $0.end <= limit }
            let farthest = state.waiting.map(\.end).max()
            state.isAsking = farthest != nil
            return (ready, farthest.map { max(chunk.load(ordering: .relaxed), $0 - limit) })
        }
    }

    /// There is no room. Returns who is to be told; whoever grows the file later asks again.
    func refused() -> [Waiter] {
        state.withLock { state in
            state.isAsking = false
            defer { state.waiting = [] }
            return state.waiting.map(\.waiter)
        }
    }
}
