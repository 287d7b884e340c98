import Coordination
import Platform
import SystemPackage

/// An open directory: streams its listing in pages and keeps few of them.
///
/// Entry numbers (0…) grow in the order of the listing and are the offsets of telldir(3). Kept are the page last read,
/// the one before it (the kernel asks again for what did not fit its buffer), and the one after, which is asked for
/// ahead. A number that is no longer kept makes the listing start again and be skipped up to there.
package final class DirectoryHandle: Sendable {
    /// Part of a listing: entries whose numbers start at `first`. None: the end.
    package struct Slice: Sendable {
        package let first: UInt64
        package let entries: ArraySlice<WireListEntry>
    }
    typealias Reader = MountedFileSystem.Answer<Slice>

    private struct Page {
        let first: UInt64
        let entries: [WireListEntry]
        var end: UInt64 { first + UInt64(entries.count) }
    }
    private struct State {
        var stream: UInt64 = 0
        var generation: UInt64 = 0
        /// Counts restarts; a page of an earlier run is dropped.
        var run = 0
        var pages: [Page] = []
        var next: UInt64 = 0
        var isComplete = false
        var isFetching = false
        var hasMoved = false
        var isClosed = false
        var restarts = 0
        var readers: [(from: UInt64, reader: Reader)] = []
    }
    private struct Request {
        let run: Int
        let stream: UInt64
        let generation: UInt64
    }

    package let inode: UInt64
    private let link: CoordinatorLink
    private let state = Lock(State())

    /// What fits a message of 128 KiB with names of common length; the coordinator sends fewer when they are long.
    private static let pageEntries: UInt32 = 1000
    private static let keptPages = 3
    /// A listing whose stream is lost that often in a row fails.
    private static let maximumRestarts = 5

    init(_ inode: UInt64, _ link: CoordinatorLink) {
        self.inode = inode
        self.link = link
    }

    /// The entries from number `from` on, as many as are at hand. Sends: not on a receive thread.
    package func read(from: UInt64, answer: @escaping MountedFileSystem.Answer<Slice>) {
        var abandoned: Request?
        let (slice, request) = state.withLock { state -> (Slice?, Request?) in
            // rewinddir(3): a new listing, which shows what has changed.
            let isRewind = from == 0 && state.hasMoved
            if isRewind || from < state.pages.first?.first ?? 0 { abandoned = Self.restart(&state) }
            state.restarts = 0
            if from > 0 { state.hasMoved = true }
            let slice = Self.slice(&state, from)
            if slice == nil { state.readers.append((from, answer)) }
            return (slice, Self.nextRequest(&state, wanted: slice == nil))
        }
        if let abandoned { closeStream(abandoned) }
        if let request { send(request) }
        if let slice { answer(.success(slice)) }
    }

    /// Ends the listing; what waits fails with EBADF. Sends: not on a receive thread.
    package func close() {
        let (request, readers) = state.withLock { state in
            state.isClosed = true
            defer { state.readers = [] }
            return (Self.restart(&state), state.readers)
        }
        if let request { closeStream(request) }
        for (_, reader) in readers { reader(.failure(.badFileDescriptor)) }
    }

    // MARK: Decisions, under the lock

    /// Forgets the pages. Returns the stream that is to be closed.
    private static func restart(_ state: inout State) -> Request? {
        let old =
            state.stream != 0 && !state.isComplete
            ? Request(run: state.run, stream: state.stream, generation: state.generation) : nil
        state.run += 1
        state.pages = []
        state.next = 0
        state.stream = 0
        state.isComplete = false
        state.isFetching = false
        state.hasMoved = false
        return old
    }

    private static func slice(_ state: inout State, _ from: UInt64) -> Slice? {
        if let index = state.pages.firstIndex(where: { $0.first <= from && from < $0.end }) {
            let page = state.pages[index]
            if index > 1 { state.pages.removeFirst(index - 1) }
            return Slice(first: from, entries: page.entries[Int(from - page.first)...])
        }
        return state.isComplete && from >= state.next ? Slice(first: from, entries: []) : nil
    }

    /// The next page to ask for, if it is time.
    private static func nextRequest(_ state: inout State, wanted: Bool) -> Request? {
        guard !state.isFetching, !state.isComplete, !state.isClosed else { return nil }
        guard wanted || state.pages.count < keptPages else { return nil }
        state.isFetching = true
        return Request(run: state.run, stream: state.stream, generation: state.generation)
    }

    // MARK: Messages

    private func send(_ request: Request) {
        var list = WireList()
        list.directory = inode
        list.stream = request.stream
        list.maximumEntries = Self.pageEntries
        let completion: CoordinatorLink.Completion = { [self] result in receive(request, result) }
        if request.stream == 0 {
            link.request(.list(list), completion: completion)
        } else {
            link.request(.list(list), boundTo: request.generation, completion: completion)
        }
    }

    private func closeStream(_ request: Request) {
        var list = WireList()
        list.directory = inode
        list.stream = request.stream
        list.close = true
        link.request(.list(list), boundTo: request.generation) { _ in }
    }

    private func receive(_ request: Request, _ result: Result<CoordinatorLink.Reply, CoordinationError>) {
        switch result {
        case .success(let reply):
            guard case .listPage(let page) = reply.body else { return fail(request, .protocolError) }
            append(page, request, reply.generation)
        case .failure(let error):
            let isLost = error == .disconnected || error.errno == .staleNFSFileHandle
            if isLost, request.stream != 0 { startAgain(request) } else { fail(request, error.errno) }
        }
    }

    private func append(_ page: WireListPage, _ request: Request, _ generation: UInt64) {
        var answered: [(Slice, Reader)] = []
        let next: Request? = state.withLock { state in
            guard state.run == request.run else {
                // Nobody reads this run any more; a stream that it started is closed by the caller below.
                return !page.end && request.stream == 0
                    ? Request(run: -1, stream: page.stream, generation: generation) : nil
            }
            state.isFetching = false
            state.stream = page.stream
            state.generation = generation
            state.isComplete = page.end
            if !page.entries.isEmpty { state.pages.append(Page(first: state.next, entries: page.entries)) }
            state.next += UInt64(page.entries.count)
            let readers = state.readers
            state.readers = []
            for (from, reader) in readers {
                if let slice = Self.slice(&state, from) {
                    answered.append((slice, reader))
                } else {
                    state.readers.append((from, reader))
                }
            }
            // While pages are only skipped, none but the last two is kept.
            if !state.readers.isEmpty, state.pages.count > 2 { state.pages.removeFirst(state.pages.count - 2) }
            return Self.nextRequest(&state, wanted: !state.readers.isEmpty)
        }
        if let next {
            link.workers.submit { [self] in next.run < 0 ? closeStream(next) : send(next) }
        }
        for (slice, reader) in answered { reader(.success(slice)) }
    }

    /// The stream is gone: the listing starts again and is skipped up to where its readers are.
    private func startAgain(_ request: Request) {
        let (next, isHopeless) = state.withLock { state -> (Request?, Bool) in
            guard state.run == request.run else { return (nil, false) }
            state.restarts += 1
            guard state.restarts <= Self.maximumRestarts else { return (nil, true) }
            let moved = state.hasMoved
            _ = Self.restart(&state)
            state.hasMoved = moved
            return (Self.nextRequest(&state, wanted: !state.readers.isEmpty), false)
        }
        if isHopeless { return fail(request, .ioError) }
        if let next { link.workers.submit { [self] in send(next) } }
    }

    private func fail(_ request: Request, _ errno: Errno) {
        let readers = state.withLock { state -> [(from: UInt64, reader: Reader)] in
            guard state.run == request.run else { return [] }
            let moved = state.hasMoved
            _ = Self.restart(&state)
            state.hasMoved = moved
            defer { state.readers = [] }
            return state.readers
        }
        for (_, reader) in readers { reader(.failure(errno)) }
    }
}

extension MountedFileSystem {
    /// Opens a directory; its listing starts with the first read. Any thread.
    package func openDirectory(_ inode: UInt64) -> DirectoryHandle { DirectoryHandle(inode, link) }
}
