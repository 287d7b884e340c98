import CFuse
import Glibc
import Synchronization
import SystemPackage

/// A request that is answered later, by whichever comes first: its result, or the caller's interruption (EINTR).
///
/// libfuse calls the interrupt function with the request's lock held, and on the parking thread itself when the request
/// was interrupted before. The winner of `state` answers; a result also waits, in `fuse_req_interrupt_func(nil)`, for
/// an interrupt function that is running, so that neither request nor object is used after its end.
final class ParkedRequest: @unchecked Sendable {
    private enum State {
        static let parking: UInt8 = 0
        static let parked: UInt8 = 1
        static let interruptedEarly: UInt8 = 2
        static let answered: UInt8 = 3
    }

    private let raw: fuse_req_t
    /// Answering uses libfuse's session, which must outlive its last thread for that.
    private let session: FuseSession?
    private let caller: Int32
    /// Any signal ends the wait, also one that the program catches: it may be how it limits the wait.
    private let endsAtAnySignal: Bool
    private let onInterrupt: (@Sendable () -> Void)?
    private let busy: BusyDirectories?
    private let directories: [fuse_ino_t]
    private let state = Atomic<UInt8>(State.parking)

    private init(
        _ request: consuming FuseRequest, endsAtAnySignal: Bool, onInterrupt: (@Sendable () -> Void)?,
        _ busy: BusyDirectories?, _ directories: [fuse_ino_t]
    ) {
        self.busy = directories.isEmpty ? nil : busy
        self.directories = directories
        self.endsAtAnySignal = endsAtAnySignal
        self.onInterrupt = onInterrupt
        caller = request.callerThread
        raw = request.take()
        session = FuseSession.of(raw)
    }

    /// Parks a request. nil: its caller had already been interrupted, and it was answered.
    ///
    /// - Parameters:
    ///   - onInterrupt: called after the request was answered with EINTR, while nobody may send to the kernel.
    ///   - directories: those that the request changes; they are `busy` until somebody claims the answer.
    static func park(
        _ request: consuming FuseRequest, endsAtAnySignal: Bool = false,
        onInterrupt: (@Sendable () -> Void)? = nil, in busy: BusyDirectories? = nil,
        changing directories: [fuse_ino_t] = []
    ) -> ParkedReply? {
        busy?.enter(directories)
        let parked = ParkedRequest(
            request, endsAtAnySignal: endsAtAnySignal, onInterrupt: onInterrupt, busy, directories)
        // Released by who answers.
        let retained = Unmanaged.passRetained(parked)
        fuse_req_interrupt_func(
            parked.raw,
            { _, data in
                guard let data else { return }
                Unmanaged<ParkedRequest>.fromOpaque(data).takeUnretainedValue().interrupt()
            }, retained.toOpaque())
        let reply = ParkedReply(parked)
        if parked.exchange(State.parking, State.parked) { return reply }
        guard parked.mustEnd else {
            parked.state.store(State.parked, ordering: .releasing)
            InterruptWatch.shared.add(parked)
            return reply
        }
        parked.state.store(State.parked, ordering: .releasing)
        parked.claim()?.fail(.interrupted)
        return nil
    }

    /// The right to answer, once.
    func claim() -> FuseRequest? {
        guard exchange(State.parked, State.answered) else { return nil }
        busy?.leave(directories)
        fuse_req_interrupt_func(raw, nil, nil)
        Unmanaged.passUnretained(self).release()
        return FuseRequest(raw)
    }

    private func interrupt() {
        if exchange(State.parking, State.interruptedEarly) { return }
        guard mustEnd else { return InterruptWatch.shared.add(self) }
        guard exchange(State.parked, State.answered) else { return }
        busy?.leave(directories)
        FuseRequest(raw).fail(.interrupted)
        onInterrupt?()
        Unmanaged.passUnretained(self).release()
    }

    /// Answers when the caller has meanwhile got a signal that ends its wait. False when it need not be asked again.
    func endIfInterrupted() -> Bool {
        guard state.load(ordering: .acquiring) == State.parked else { return false }
        guard mustEnd else { return true }
        if let request = claim() {
            request.fail(.interrupted)
            onInterrupt?()
        }
        return false
    }

    private var mustEnd: Bool { endsAtAnySignal || InterruptPolicy.endsWait(of: caller) }

    private func exchange(_ expected: UInt8, _ desired: UInt8) -> Bool {
        state.compareExchange(expected: expected, desired: desired, ordering: .acquiringAndReleasing).exchanged
    }
}

/// What the closure that will answer holds: when it is dropped without an answer, the request is answered with EIO.
final class ParkedReply: Sendable {
    private let parked: ParkedRequest

    fileprivate init(_ parked: ParkedRequest) { self.parked = parked }

    deinit { _ = parked.claim() }

    /// The request to answer; nil when its caller was interrupted.
    func claim() -> FuseRequest? { parked.claim() }
}
