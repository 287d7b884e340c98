import Platform
import SystemPackage
import UnderStores

/// Large files are uploaded while they are written: parts that seem to be done, on trial. The commit reads every part and
/// sends again what has changed.
extension StagingService {
    // Parts of one file under way at once, and how many may fail or turn out changed before the trial ends.
    private static let window = 4
    private static let patience = 3

    /// Looks soon whether files grow. Nothing looks while no file is open for writing.
    func watchGrowth() {
        let starts = state.withLock { state in
            let isResting = state.pollDelay == nil
            state.pollDelay = configuration.shortestPoll
            return isResting
        }
        if starts { schedulePoll() }
    }

    private func schedulePoll() {
        guard !isClosed, let delay = state.withLock({ $0.pollDelay }) else { return }
        clock.schedule(after: delay) { [weak self] in
            guard let self else { return }
            pool.submit { [weak self] in self?.poll() }
        }
    }

    /// Looks at every file that is being written, and looks again later: soon while something grows. Pool.
    func poll() {
        guard !isClosed else { return }
        var hasWriters = false
        var isGrowing = false
        for file in files where !file.state.withLock({ $0.isReleased }) {
            guard file.writeType != .mustCache else { continue }
            hasWriters = true
            if advance(file) { isGrowing = true }
        }
        state.withLock { state in
            guard hasWriters else {
                state.pollDelay = nil
                return
            }
            let longer = (state.pollDelay ?? configuration.shortestPoll) * 2
            state.pollDelay = isGrowing ? configuration.shortestPoll : min(longer, configuration.longestPoll)
        }
        if hasWriters { schedulePoll() }
    }

    /// Starts uploading what has come since the last look. Returns whether something has.
    private func advance(_ file: StagedFile) -> Bool {
        guard let status = try? file.status() else { return false }
        let (previous, isBusy) = file.state.withLock { state in
            defer { state.polledSize = status.size }
            return (state.polledSize, state.flight != nil)
        }
        guard status.size > previous else { return false }
        file.file.account()
        // A file of holes is not being written from front to back.
        guard !isBusy, previous > 2 * configuration.parts.first, status.blocks * 512 >= previous / 2 else {
            return true
        }
        uploadAhead(file, upTo: previous)
        return true
    }

    /// Uploads parts that end before `frontier`, a few at once.
    private func uploadAhead(_ file: StagedFile, upTo frontier: UInt64) {
        guard let session = file.state.withLock({ $0.upload }) else { return beginAhead(file, upTo: frontier) }
        session.state.withLock { state in
            while !state.isClosed, state.failures < Self.patience, state.running.count < Self.window,
                let number = nextPart(state, below: frontier)
            {
                let start = configuration.parts.offset(of: number)
                let range = start..<start + configuration.parts.size(of: number)
                state.running[number] = Task(executorPreference: pool) { [self] in
                    let isDone = await tryPart(number, range, of: file, session, upTo: frontier)
                    session.state.withLock { state in
                        state.running[number] = nil
                        if !isDone { state.failures += 1 }
                    }
                    if isDone { uploadAhead(file, upTo: frontier) }
                }
            }
        }
    }

    private func beginAhead(_ file: StagedFile, upTo frontier: UInt64) {
        file.state.withLock { state in
            // A file that the store has already is brought up at its commit, mostly by copies within the store.
            guard state.flight == nil, state.beginning == nil, state.snapshot == nil, state.phase == .current,
                !state.hasFailedAhead, state.holds == 0
            else { return }
            let target = state.target
            var metadata = target.metadata
            metadata.modified = .now()
            state.beginning = Task(executorPreference: pool) { [self, metadata] in
                // Whether it works counts at the commit.
                let session = try? await begin(file, target, metadata)
                file.state.withLock { state in
                    state.beginning = nil
                    state.hasFailedAhead = session == nil
                }
                if session != nil { uploadAhead(file, upTo: frontier) }
            }
        }
    }

    private func nextPart(_ state: UploadSession.State, below frontier: UInt64) -> Int? {
        var number = 1
        while configuration.parts.offset(of: number + 1) <= frontier {
            if state.parts[number] == nil, state.running[number] == nil { return number }
            number += 1
        }
        return nil
    }

    private func lastPart(below frontier: UInt64) -> Int {
        var number = 0
        while configuration.parts.offset(of: number + 2) <= frontier { number += 1 }
        return number
    }

    private func tryPart(
        _ number: Int, _ range: Range<UInt64>, of file: StagedFile, _ session: UploadSession, upTo frontier: UInt64
    ) async -> Bool {
        do throws(StagingFailure) {
            let content: PartContent
            if file.target.store.wantsMD5 {
                let (parts, last) = (configuration.parts, lastPart(below: frontier))
                content = try await session.reader.content(number, upTo: last, of: file, session, self) {
                    parts.offset(of: $0)..<parts.offset(of: $0 + 1)
                }
            } else {
                content = try await read(file, range)
            }
            guard file.isCurrent, session.state.withLock({ !$0.isClosed }) else { return false }
            try await send(
                number, range, content, of: file, file.target, session, isUrgent: false)
            return true
        } catch {
            return false
        }
    }
}
