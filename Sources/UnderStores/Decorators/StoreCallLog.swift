import Platform

/// What was asked of a store, in order, for tests that count requests. Any thread.
package final class StoreCallLog: Sendable {
    package enum Operation: Hashable, Sendable, CaseIterable {
        case lookup
        /// One page of a listing.
        case page
        case read
        case readLink
        case openSource
        case space
        case probeConditions
        case metadata
        case put
        case look
        case beginUpload
        case uploadPart
        case copyPart
        case completeUpload
        case abortUpload
        case uploads
        case copy
        case remove
        /// Of the first path.
        case removeAll
        case makeDirectory
        case removeDirectory
        case makeLink
        /// One page of a listing of keys.
        case keyPage
        case copyKey
    }

    package struct Call: Hashable, Sendable {
        package let operation: Operation
        package let path: ByteString
        /// Of a read.
        package let range: Range<UInt64>?
    }

    private let calls = Lock<[Call]>([])

    package init() {}

    package func record(_ operation: Operation, _ path: ByteString, range: Range<UInt64>? = nil) {
        calls.withLock { $0.append(Call(operation: operation, path: path, range: range)) }
    }

    package var all: [Call] { calls.withLock { $0 } }

    package func count(_ operation: Operation) -> Int { all.count { $0.operation == operation } }

    /// Bytes asked for by all reads.
    package var bytesRead: UInt64 { all.reduce(0) { $0 + UInt64($1.range?.count ?? 0) } }

    package func reset() { calls.withLock { $0.removeAll() } }
}
