import Platform

/// The operation numbers of the kernel's requests that change something, until they are answered.
///
/// When this process dies before it answers, the kernel sends the request again, to a successor, which finds its number
/// here: the coordinator then does it once.
final class RequestLog: Sendable {
    private struct State {
        var slots: [UInt64: Int] = [:]
        /// Requests of processes before this one, the oldest last.
        var inherited: [UInt64] = []
    }
    private let memory: SessionMemory
    private let state: Lock<State>

    init(_ memory: SessionMemory) {
        self.memory = memory
        let known = memory.requests.all().map { slot in
            (slot, memory.requests.body(slot).load(as: RequestRecord.self))
        }
        var state = State()
        for (slot, record) in known { state.slots[record.request] = slot }
        state.inherited = known.sorted { $0.1.operation > $1.1.operation }.map(\.1.request)
        self.state = Lock(state)
    }

    /// The number of the operation that a request asks for. `answered` must follow.
    /// - Parameter request: unlike any other of the session's; 0 for what the kernel did not ask for.
    func operation(of request: UInt64) -> UInt64 {
        guard request != 0 else { return memory.nextOperation() }
        return state.withLock { state in
            if let slot = state.slots[request] {
                return memory.requests.body(slot).load(as: RequestRecord.self).operation
            }
            let operation = memory.nextOperation()
            // Without a record it is done twice if this process dies, and fails then as what is done already.
            guard let slot = memory.requests.take() ?? Self.takeOldest(&state) else { return operation }
            memory.requests.body(slot).storeBytes(
                of: RequestRecord(request: request, operation: operation), as: RequestRecord.self)
            memory.requests.publish(slot)
            state.slots[request] = slot
            return operation
        }
    }

    /// The kernel has its answer.
    func answered(_ request: UInt64) {
        guard request != 0 else { return }
        if let slot = state.withLock({ $0.slots.removeValue(forKey: request) }) { memory.requests.release(slot) }
    }

    /// What a predecessor answered just before it died stays noted until its record is needed.
    private static func takeOldest(_ state: inout State) -> Int? {
        while let request = state.inherited.popLast() {
            if let slot = state.slots.removeValue(forKey: request) { return slot }
        }
        return nil
    }
}

extension MountedFileSystem {
    /// The number of the operation that a request of the kernel's asks for: the same when the kernel sends it again. `answered`
    /// must follow.
    package func operation(of request: UInt64) -> UInt64 { requests.operation(of: request) }

    /// The kernel has the answer to a request that changed something.
    package func answered(_ request: UInt64) { requests.answered(request) }
}
