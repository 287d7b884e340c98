import Platform
import UnderStores

/// An upload in parts that is under way for one staged file: which parts the store has, with what content.
final class UploadSession: Sendable {
    struct State {
        var parts: [Int: StagedPart]
        var running: [Int: Task<Void, Never>] = [:]
        /// The commit has begun: nothing more is uploaded ahead.
        var isClosed = false
        /// Parts uploaded ahead that failed.
        var failures = 0
    }

    let upload: UploadID
    let path: ByteString
    /// What the object will have beside its bytes: it cannot be changed any more.
    let metadata: WrittenMetadata
    let state: Lock<State>
    /// Of parts that are uploaded ahead.
    let reader = PartReader()

    init(_ upload: UploadID, path: ByteString, metadata: WrittenMetadata, parts: [Int: StagedPart] = [:]) {
        self.upload = upload
        self.path = path
        self.metadata = metadata
        state = Lock(State(parts: parts))
    }

    func part(_ number: Int) -> StagedPart? { state.withLock { $0.parts[number] } }
    func note(_ part: StagedPart) { state.withLock { $0.parts[part.part.number] = part } }
    /// The first parts after `number` and up to `last` that the store does not have, `count` at most.
    func missing(after number: Int, upTo last: Int, count: Int) -> [Int] {
        guard number < last else { return [] }
        let parts = state.withLock { $0.parts }
        return Array((number + 1...last).lazy.filter { parts[$0] == nil }.prefix(count))
    }
    var uploadedBytes: UInt64 { state.withLock { $0.parts.values.reduce(0) { $0 + $1.part.size } } }

    /// Ends uploading ahead; what is under way goes on.
    func stop() { state.withLock { $0.isClosed = true } }

    /// Waits for the part, if it is being uploaded ahead.
    func finish(_ number: Int) async { await state.withLock { $0.running[number] }?.value }

    /// Ends uploading ahead and waits for what is under way.
    func close() async {
        let tasks = state.withLock { state in
            state.isClosed = true
            return Array(state.running.values)
        }
        for task in tasks { await task.value }
    }
}
