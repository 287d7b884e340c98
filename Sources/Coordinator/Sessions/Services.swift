import BlockCaching
import Logging
import Platform

/// What sessions are served with.
struct Services: Sendable {
    let namespace: Namespace
    let volumes: VolumeTable
    let leases: LeaseService
    let changes: ChangeService
    let operations: OperationLog
    let locks: LockTable
    let cache: BlockCache
    let pool: WorkerPool
    let sessions: SessionTable
    let notes: StatusNotes
    let logger: Logger
    let socketPath: String
    let software: String
    /// CLOCK_MONOTONIC nanoseconds.
    let startedAt: UInt64
    /// How long a mount may take to forget what it is told to.
    let patience: Duration
    /// Ends the coordinator.
    let stop: @Sendable () -> Void
}
