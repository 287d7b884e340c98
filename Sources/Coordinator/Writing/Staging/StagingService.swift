import BlockCaching
import Coordination
import LMDB
import Logging
import Platform
import Synchronization
import SystemPackage
import UnderStores

/// Keeps what is written to objects on this node until their stores have it, and brings it there.
///
/// Every change of a staged file's state is in the journal before it counts, so that a successor on the same directories
/// goes on where this one was killed. Any task may call, on any executor.
package final class StagingService: Sendable {
    struct State {
        var files: [UInt64: StagedFile] = [:]
        /// What a predecessor left, by store, until that store is attached.
        var dormant: [String: [(number: UInt64, record: StagedRecord, file: StagingFile)]] = [:]
        var stores: [String: any ObjectWriting] = [:]
        var queue: [StagedFile] = []
        var lingering = LingeringFiles<StagedFile>()
        var unsaved = UnsavedFiles()
        var running = 0
        /// Who waits for room.
        var roomWaiters: [CheckedContinuation<Bool, Never>] = []
        var pollDelay: Duration?
    }

    let journal: Journal
    let cache: BlockCache
    let configuration: StagingConfiguration
    let clock: any StagingClock
    let events: any StagingEvents
    let logger: Logger
    let budget: UploadBudget
    /// Reads files and writes the journal; the service's tasks run on it.
    let pool: WorkerPool
    let state = Lock(State())
    let closed = Atomic(false)

    private static let sharedPool = WorkerPool(name: "staging", threads: 4)

    /// Reads the journal and looks at what staging files there are; nothing is uploaded before `recover`. Blocks.
    package init(
        journal: Journal, cache: BlockCache, configuration: StagingConfiguration = StagingConfiguration(),
        clock: any StagingClock = SystemStagingClock(), events: any StagingEvents, logger: Logger
    ) throws(LMDBError) {
        self.journal = journal
        self.cache = cache
        self.configuration = configuration
        self.clock = clock
        self.events = events
        self.logger = logger
        pool = Self.sharedPool
        budget = UploadBudget(uploads: configuration.parallelUploads, unit: configuration.parts.first)
        try takeStock()
        journal.noteRead()
    }

    var isClosed: Bool { closed.load(ordering: .acquiring) }

    /// Stops, as a kill would: nothing is uploaded or journaled any more. What is under way ends without effect here.
    package func abandon() {
        closed.store(true, ordering: .releasing)
        journal.close()
        for task in tasks { task() }
        state.withLock { state in
            state.queue = []
            _ = state.lingering.takeAll()
        }
        wakeRoomWaiters()
    }

    /// What ends the tasks that are under way.
    private var tasks: [() -> Void] {
        state.withLock { Array($0.files.values) }.flatMap { file in
            file.state.withLock { state -> [() -> Void] in
                let parts = state.upload?.state.withLock { Array($0.running.values) } ?? []
                return [
                    state.flight.map { $0.task.cancel }, state.beginning.map { $0.cancel },
                    state.look.map { $0.cancel }, state.lookAfter.map { $0.cancel },
                ].compactMap { $0 } + parts.map { $0.cancel }
            }
        }
    }

    /// Ends in order: waits for commits under way, and makes the journal and the acknowledged files survive a reboot.
    package func shutdown() async {
        let (flights, files) = state.withLock { state in
            state.queue = []
            _ = state.lingering.takeAll()
            let files = Array(state.files.values)
            return (files.compactMap { file in file.state.withLock { $0.flight?.task } }, files)
        }
        for flight in flights { _ = await flight.value }
        for file in files { await waitForLook(at: file) }
        await pool.run { [self] in
            for file in files where file.state.withLock({ $0.acknowledged != nil && !$0.isDurable }) {
                try? makeDurable(file)
            }
            try? journal.synchronize()
        }
        abandon()
    }

    /// Has a store that staged files may belong to at hand, for `restore` and for what a predecessor left.
    func note(_ store: any ObjectWriting) { state.withLock { $0.stores[store.identity.text] = store } }

    // MARK: Finding

    /// A staged file by its number, while it is the content of its path.
    package func file(_ number: UInt64) -> StagedFile? {
        state.withLock { $0.files[number] }.flatMap { $0.isCurrent ? $0 : nil }
    }

    /// Every staged file that is the content of its path.
    package var files: [StagedFile] {
        state.withLock { Array($0.files.values) }.filter(\.isCurrent).sorted { $0.number < $1.number }
    }

    /// Writes the file's record. Blocks.
    func save(_ file: StagedFile) throws(StagingFailure) {
        do throws(LMDBError) {
            // The record is made inside the transaction: of two that save at once, the later one writes what is newer.
            try journal.update { (transaction) throws(LMDBError) in
                try journal.put(file.record(), number: file.number, transaction)
            }
        } catch { throw .journal(error) }
    }

    /// As `save`, soon, and with others in one transaction: where a successor would do the same without the record.
    func saveSoon(_ file: StagedFile) {
        guard state.withLock({ $0.unsaved.add(file.number) }) else { return }
        pool.submit { [self] in
            let numbers = state.withLock { $0.unsaved.take() }
            do throws(LMDBError) {
                try journal.put(numbers) { number in
                    self.state.withLock { $0.files[number] }?.recordUnlessHeld()
                }
            } catch {
                if !isClosed { logger.error("the journal cannot be written: \(error)") }
            }
        }
    }

    /// As `save`, where the change itself cannot be undone: the next start finds out.
    func saveOrReport(_ file: StagedFile) {
        do throws(StagingFailure) { try save(file) } catch {
            if !isClosed { logger.error("\(error.storeError(file.path))") }
        }
    }

    /// Runs a step that blocks for less than a millisecond: here, when the caller has a thread that may block.
    func blockingBriefly<Value: Sendable, Failure: Error>(
        _ body: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        let hasThreads = withUnsafeCurrentTask { $0?.unownedTaskExecutor != nil }
        return hasThreads ? try body() : try await pool.run(body)
    }

    /// Runs a blocking step on the service's threads.
    func blocking<Value: Sendable, Failure: Error>(
        _ body: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        try await pool.run(body)
    }
}
