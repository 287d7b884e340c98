import Synchronization

/// What a store has been asked and has answered since it was opened; for `larder status` and metrics.
package struct StoreCounters: Hashable, Sendable {
    package var headRequests: UInt64 = 0
    package var getRequests: UInt64 = 0
    package var listRequests: UInt64 = 0
    /// PUT, POST and DELETE.
    package var changeRequests: UInt64 = 0
    /// Bytes of object bodies and listings.
    package var bytesReceived: UInt64 = 0
    /// Bytes of objects and parts that the store has taken.
    package var bytesSent: UInt64 = 0
    /// Answers and connections that failed, whether or not they were retried. "Not found" is no failure.
    package var errors: UInt64 = 0
    package var retries: UInt64 = 0

    package init() {}

    package var requests: UInt64 { headRequests + getRequests + listRequests + changeRequests }
}

/// The live counters behind `StoreCounters`. Any thread.
package final class StoreMeter: Sendable {
    package enum Verb: Sendable {
        case head
        case get
        case list
        case change
    }

    private let head = Atomic<UInt64>(0)
    private let get = Atomic<UInt64>(0)
    private let list = Atomic<UInt64>(0)
    private let change = Atomic<UInt64>(0)
    private let bytes = Atomic<UInt64>(0)
    private let sent = Atomic<UInt64>(0)
    private let errors = Atomic<UInt64>(0)
    private let retries = Atomic<UInt64>(0)

    package init() {}

    package func countRequest(_ verb: Verb) {
        switch verb {
        case .head: head.add(1, ordering: .relaxed)
        case .get: get.add(1, ordering: .relaxed)
        case .list: list.add(1, ordering: .relaxed)
        case .change: change.add(1, ordering: .relaxed)
        }
    }
    package func countBytes(_ count: Int) { bytes.add(UInt64(count), ordering: .relaxed) }
    package func countSent(_ count: UInt64) { sent.add(count, ordering: .relaxed) }
    package func countError() { errors.add(1, ordering: .relaxed) }
    package func countRetry() { retries.add(1, ordering: .relaxed) }

    package var snapshot: StoreCounters {
        var counters = StoreCounters()
        counters.headRequests = head.load(ordering: .relaxed)
        counters.getRequests = get.load(ordering: .relaxed)
        counters.listRequests = list.load(ordering: .relaxed)
        counters.changeRequests = change.load(ordering: .relaxed)
        counters.bytesReceived = bytes.load(ordering: .relaxed)
        counters.bytesSent = sent.load(ordering: .relaxed)
        counters.errors = errors.load(ordering: .relaxed)
        counters.retries = retries.load(ordering: .relaxed)
        return counters
    }
}
