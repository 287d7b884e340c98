import BlockCaching
import Coordination
import Platform
import SystemPackage
import UnderStores

/// What an inode holds from its first write until it is committed: a file on this node, shared by everybody who writes it.
///
/// `StagingService` makes and ends it. Any thread.
package final class StagedFile: Sendable {
    enum Phase: Hashable, Sendable {
        /// The truth of its path.
        case current
        /// The object is, again: nothing is written here any more.
        case finished
        case conflicted(reason: String, time: FileTime)
        /// Its name is gone; who has it open goes on.
        case discarded
    }

    struct Flight {
        let number: UInt64
        let task: Task<Result<ObjectAttributes?, CoordinationError>, Never>
    }

    /// The content that the object has, as far as this process has seen it.
    struct Known: Sendable {
        var attributes: ObjectAttributes?
        var print: ContentPrint
        var parts: [Fingerprint]
        /// The version that has it: another one may have other parts.
        var version: WriteCondition
        var blocks: [UInt32]
    }

    struct State {
        var target: StagedTarget
        var phase = Phase.current
        /// As it looked when the object had its content; nil: never.
        var snapshot: FileSnapshot?
        /// As it looked when it was acknowledged without an upload.
        var acknowledged: FileSnapshot?
        var isDurable = false
        /// Its object is being removed.
        var isLeaving = false
        /// How many changes of its name are under way: no commit begins meanwhile.
        var holds = 0
        /// Who waits for their end.
        var held: [CheckedContinuation<Void, Never>] = []
        /// The file's times were set while somebody may have been writing: they tell nothing.
        var isDoubtful = false
        /// What the object had then; nil where only the bytes themselves tell.
        var content: ContentPrint?
        var known: Known?
        var attempts: [ContentPrint] = []
        var hasNewMetadata = false
        var isReleased = false
        /// Moves when a writer comes back: what was seen of the file before is no longer sure.
        var returns: UInt64 = 0
        /// Whether a mount of the coordinator's predecessor may still come for it.
        var isAwaited = false
        /// What the store was seen to have for the next commit, or is about to be.
        var look: Task<ConditionLook?, Never>?
        /// Looks whether somebody else has replaced what the last commit has made.
        var lookAfter: Task<Void, Never>?
        var flight: Flight?
        var flights: UInt64 = 0
        var upload: UploadSession?
        /// Begins an upload ahead of the commit.
        var beginning: Task<Void, Never>?
        var hasFailedAhead = false
        /// Size at the last poll.
        var polledSize: UInt64 = 0
        var isQueued = false
        var isRetryScheduled = false
        var failures = 0
        var lastError: StoreError?
    }

    package let number: UInt64
    let file: StagingFile
    let created: FileTime
    let state: Lock<State>

    init(number: UInt64, file: StagingFile, target: StagedTarget, created: FileTime = .now()) {
        self.number = number
        self.file = file
        self.created = created
        state = Lock(State(target: target))
    }

    /// Where it belongs now.
    package var target: StagedTarget { state.withLock { $0.target } }
    package var path: ByteString { state.withLock { $0.target.path } }
    package var inode: UInt64 { state.withLock { $0.target.inode } }
    package var writeType: WriteType { state.withLock { $0.target.writeType } }
    /// What the store has of it as far as is known: the condition of the next commit.
    package var base: WriteCondition { state.withLock { $0.target.base } }
    /// Of the last commit in this process.
    package var committed: ObjectAttributes? { state.withLock { $0.known?.attributes } }
    /// Bytes of the content that the object has, by the last commit of any process; nil when there was none.
    var contentSize: UInt64? { state.withLock { $0.snapshot?.size } }
    /// Whether it is still the content of its path.
    package var isCurrent: Bool { state.withLock { $0.phase == .current } }

    /// Open for reading and writing; to be lent. Blocks on the disk. Throws EMFILE, EIO, ….
    package func descriptor() throws(Errno) -> Descriptor { try file.descriptor() }

    /// Whether a writer may make it grow without asking for room first. Blocks on the disk.
    package var mayGrowUnasked: Bool { file.hasAmpleRoom }

    /// Size and times now. Blocks on the disk.
    package func status() throws(Errno) -> FileStatus { try file.descriptor().status() }

    /// Whether the object may lack something that was written. Blocks on the disk.
    package var isDirty: Bool {
        guard let now = try? FileSnapshot(status()) else { return true }
        return isDirty(now)
    }

    func isDirty(_ now: FileSnapshot) -> Bool {
        state.withLock { state in
            guard let snapshot = state.snapshot else { return true }
            return !snapshot.looksLike(now) || state.hasNewMetadata
        }
    }

    /// What the journal keeps of it.
    func record() -> StagedRecord { state.withLock { record($0) } }

    /// The same; nil when the file is no longer the content of its path, or somebody changes its name, who writes the
    /// journal together with other files'.
    func recordUnlessHeld() -> StagedRecord? {
        state.withLock { $0.phase == .current && $0.holds == 0 ? record($0) : nil }
    }

    private func record(_ state: State) -> StagedRecord {
        let journaled: StagedRecord.State =
            switch state.phase {
            case .conflicted(let reason, let time): .conflict(reason: reason, time: time)
            default: state.acknowledged == nil ? .writing : .acknowledged(isDurable: state.isDurable)
            }
        return StagedRecord(
            store: state.target.store.identity.text, path: state.target.path, base: state.target.base,
            metadata: state.target.metadata, hasNewMetadata: state.hasNewMetadata,
            isLeaving: state.isLeaving, writeType: state.target.writeType, tier: file.tierIdentity,
            inode: state.target.inode,
            state: journaled, created: created, snapshot: state.snapshot, content: state.content,
            attempts: state.attempts,
            upload: state.upload?.upload, uploadMetadata: state.upload?.metadata,
            lastError: state.lastError?.message)
    }
}
