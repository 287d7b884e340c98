import Platform

/// Lets a bounded number of fetches run, in the order of arrival, demands before prefetches.
final class FetchScheduler: Sendable {
    /// One fetch's place in the queue.
    final class Ticket: Sendable {
        fileprivate let number: UInt64
        fileprivate init(number: UInt64) { self.number = number }
    }

    private struct Waiting {
        let ticket: Ticket
        let continuation: CheckedContinuation<Void, Never>
    }

    private struct State {
        var nextNumber: UInt64 = 0
        var running = 0
        var runningPrefetches = 0
        var demands: [Waiting] = []
        var prefetches: [Waiting] = []
        /// Tickets that have not been released.
        var live: Set<UInt64> = []
        /// Tickets that became demands, perhaps before they came to wait.
        var promoted: Set<UInt64> = []
        /// Tickets that hold a prefetch slot.
        var prefetchSlots: Set<UInt64> = []
    }

    private let limit, prefetchLimit: Int
    private let state: Lock<State>

    /// Prefetches use three quarters of the slots at most, so that a demand seldom waits for one of them to end.
    init(limit: Int) {
        self.limit = limit
        prefetchLimit = max(1, limit * 3 / 4)
        state = Lock(State())
    }

    func ticket() -> Ticket {
        state.withLock {
            $0.nextNumber += 1
            $0.live.insert($0.nextNumber)
            return Ticket(number: $0.nextNumber)
        }
    }

    var counts: (running: Int, queued: Int) {
        state.withLock { ($0.running, $0.demands.count + $0.prefetches.count) }
    }

    /// Waits for a slot, which `release` gives back.
    func acquire(_ ticket: Ticket, urgency: FetchUrgency) async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let ready = state.withLock { state in
                let waiting = Waiting(ticket: ticket, continuation: continuation)
                if urgency == .demand || state.promoted.contains(ticket.number) {
                    state.demands.append(waiting)
                } else {
                    state.prefetches.append(waiting)
                }
                return start(&state)
            }
            for waiting in ready { waiting.continuation.resume() }
        }
    }

    func release(_ ticket: Ticket) {
        let ready = state.withLock { state in
            state.running -= 1
            state.live.remove(ticket.number)
            state.promoted.remove(ticket.number)
            if state.prefetchSlots.remove(ticket.number) != nil { state.runningPrefetches -= 1 }
            return start(&state)
        }
        for waiting in ready { waiting.continuation.resume() }
    }

    /// A reader now waits for what was a prefetch.
    func promote(_ ticket: Ticket) {
        let ready = state.withLock { state in
            guard state.live.contains(ticket.number), state.promoted.insert(ticket.number).inserted else {
                return [Waiting]()
            }
            if let place = state.prefetches.firstIndex(where: { $0.ticket === ticket }) {
                state.demands.append(state.prefetches.remove(at: place))
            }
            return start(&state)
        }
        for waiting in ready { waiting.continuation.resume() }
    }

    private func start(_ state: inout State) -> [Waiting] {
        var ready: [Waiting] = []
        while state.running < limit {
            if !state.demands.isEmpty {
                ready.append(state.demands.removeFirst())
            } else if !state.prefetches.isEmpty, state.runningPrefetches < prefetchLimit {
                let waiting = state.prefetches.removeFirst()
                state.runningPrefetches += 1
                state.prefetchSlots.insert(waiting.ticket.number)
                ready.append(waiting)
            } else {
                break
            }
            state.running += 1
        }
        return ready
    }
}
