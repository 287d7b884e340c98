import Coordination
import Platform
import SystemPackage

/// An open directory: streams its listing in pages and keeps few of them.
///
/// Entry numbers (0…) grow in the order of the listing, and on after rewinddir(3), and are the offsets of telldir(3). Kept
/// whole are the page last read, the one before it (the kernel asks again for what did not fit its buffer), and the one
/// after, which is asked for ahead; of the others the names (`PastNames`). A number that is not even known by its name makes
/// the listing start again and be skipped up to there.
///
/// A successor of this process starts the listing anew, and numbers it by the name that was shown last.
package final class DirectoryHandle: Sendable {
    /// Part of a listing: entries whose numbers start at `first`. None: the end.
    package struct Slice: Sendable {
        package let first: UInt64
        package let entries: ArraySlice<WireListEntry>
        /// Of the entries, only name, inode and type are known.
        package let areNames: Bool
        /// The inode that ".." stands for.
        package let parent: UInt64
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
        var past = PastNames()
        /// The number of the listing's first entry.
        var base: UInt64 = 0
        var next: UInt64 = 0
        var parent: UInt64 = 0
        var isComplete = false
        var isFetching = false
        var hasMoved = false
        var isClosed = false
        var restarts = 0
        var readers: [(from: UInt64, reader: Reader)] = []
        /// Where a predecessor of this process was, until the listing has come to that name, and how many entries it has
        /// passed meanwhile.
        var anchor: DirectoryPlace.Shown?
        var skipped: UInt64 = 0
        /// In which the entries have come: a listing that goes on where this one was must have the same.
        var order = WireList.Order.any
    }
    private struct Request {
        let run: Int
        let stream: UInt64
        let generation: UInt64
    }

    package let inode: UInt64
    private let link: CoordinatorLink
    private let state = Lock(State())
    private let place = Lock<DirectoryPlace?>(nil)

    /// What fits a message of 128 KiB with names of common length; the coordinator sends fewer when they are long.
    private static let pageEntries: UInt32 = 1000
    private static let keptPages = 3
    /// A listing whose stream is lost that often in a row fails.
    private static let maximumRestarts = 5

    init(_ inode: UInt64, _ link: CoordinatorLink) {
        self.inode = inode
        self.link = link
    }

    /// One that a predecessor of this process had read up to `shown`.
    init(_ inode: UInt64, _ link: CoordinatorLink, from shown: DirectoryPlace.Shown?) {
        self.inode = inode
        self.link = link
        state.withLock { state in
            state.anchor = shown
            state.order = shown?.order ?? .any
            state.hasMoved = shown != nil
            state.next = shown.map { $0.number + 1 } ?? 0
        }
    }

    /// Where it is noted what was shown; nil: nowhere any more.
    func note(in place: DirectoryPlace?) { self.place.withLock { $0 = place } }

    /// The kernel is told entries up to this one.
    package func noteShown(_ number: UInt64, _ name: ByteString) {
        let order = state.withLock { $0.order }
        place.withLock { $0?.note(number, name, order) }
    }

    /// The entries from number `from` on, as many as are at hand. Sends: not on a receive thread.
    ///
    /// - Parameter from: nil for the start of the directory as it is now: a new listing, when this one has been read
    ///   (rewinddir(3)).
    package func read(from number: UInt64?, answer: @escaping MountedFileSystem.Answer<Slice>) {
        var abandoned: Request?
        let (slice, request) = state.withLock { state -> (Slice?, Request?) in
            state.restarts = 0
            if let number, let names = Self.pastSlice(state, number) {
                state.hasMoved = true
                return (names, nil)
            }
            if number == nil, state.hasMoved {
                let next = state.next
                // The number between the two listings is the end of the former.
                state.anchor = nil
                state.order = .any
                abandoned = restart(&state, at: next + 1)
            } else if let number, number < state.pages.first?.first ?? state.base {
                state.past.removeAll()
                state.anchor = nil
                abandoned = restart(&state, at: number < state.base ? 0 : state.base)
            }
            if number != nil { state.hasMoved = true }
            let from = number ?? state.base
            let slice = self.slice(&state, from)
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
            return (restart(&state, at: state.base), state.readers)
        }
        if let request { closeStream(request) }
        for (_, reader) in readers { reader(.failure(.badFileDescriptor)) }
    }

    // MARK: Decisions, under the lock

    /// Ends the listing for one whose first entry has number `base`. Returns the stream that is to be closed.
    private func restart(_ state: inout State, at base: UInt64) -> Request? {
        let old =
            state.stream != 0 && !state.isComplete
            ? Request(run: state.run, stream: state.stream, generation: state.generation) : nil
        state.run += 1
        Self.keepNames(&state, ofPages: state.pages.count)
        state.base = base
        state.next = base
        state.stream = 0
        state.isComplete = false
        state.isFetching = false
        state.hasMoved = false
        state.skipped = 0
        return old
    }

    private func slice(_ state: inout State, _ from: UInt64) -> Slice? {
        let parent = state.parent == 0 ? inode : state.parent
        if let index = state.pages.firstIndex(where: { $0.first <= from && from < $0.end }) {
            let page = state.pages[index]
            Self.keepNames(&state, ofPages: index - 1)
            return Slice(
                first: from, entries: page.entries[Int(from - page.first)...], areNames: false, parent: parent)
        }
        return state.isComplete && from >= state.next
            ? Slice(first: from, entries: [], areNames: false, parent: parent) : nil
    }

    /// What is kept only by name.
    private static func pastSlice(_ state: State, _ from: UInt64) -> Slice? {
        guard from < state.pages.first?.first ?? state.next else { return nil }
        let isEnd = from < state.base && state.past.isEnd(from)
        guard let entries = isEnd ? [] : state.past.entries(from: from) else { return nil }
        return Slice(first: from, entries: entries[...], areNames: true, parent: state.parent)
    }

    /// Keeps of the first `count` pages the names.
    private static func keepNames(_ state: inout State, ofPages count: Int) {
        guard count > 0 else { return }
        for page in state.pages.prefix(count) { state.past.add(page.entries, first: page.first) }
        state.pages.removeFirst(count)
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
        if request.stream == 0 { list.order = state.withLock { $0.order } }
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
            state.parent = page.parent
            state.order = page.order
            guard let entries = Self.numbered(page, &state) else {
                if page.end {
                    // The name is gone: what remains is to count.
                    state.anchor = nil
                    let moved = state.hasMoved
                    _ = restart(&state, at: 0)
                    state.hasMoved = moved
                }
                return Self.nextRequest(&state, wanted: !state.readers.isEmpty)
            }
            if !entries.isEmpty { state.pages.append(Page(first: state.next, entries: entries)) }
            state.next += UInt64(entries.count)
            let readers = state.readers
            state.readers = []
            for (from, reader) in readers {
                if let slice = self.slice(&state, from) {
                    answered.append((slice, reader))
                } else {
                    state.readers.append((from, reader))
                }
            }
            // While pages are only skipped, none but the last two is kept.
            if !state.readers.isEmpty { Self.keepNames(&state, ofPages: state.pages.count - 2) }
            return Self.nextRequest(&state, wanted: !state.readers.isEmpty)
        }
        if let next {
            link.workers.submit { [self] in next.run < 0 ? closeStream(next) : send(next) }
        }
        for (slice, reader) in answered { reader(.success(slice)) }
    }

    /// The entries of a page that have numbers; nil while the listing has not come to the name that a predecessor showed last.
    private static func numbered(_ page: WireListPage, _ state: inout State) -> [WireListEntry]? {
        guard let anchor = state.anchor else { return page.entries }
        guard let index = page.entries.firstIndex(where: { ByteString($0.name) == anchor.name }) else {
            state.skipped += UInt64(page.entries.count)
            return nil
        }
        state.anchor = nil
        // Names that have come since before it have no numbers.
        let unnumbered = max(0, index - Int(clamping: anchor.number))
        state.next = anchor.number - UInt64(index - unnumbered)
        state.base = state.next > state.skipped ? state.next - state.skipped : 0
        return unnumbered == 0 ? page.entries : Array(page.entries[unnumbered...])
    }

    /// The stream is gone: the listing starts again and is skipped up to where its readers are.
    private func startAgain(_ request: Request) {
        let (next, isHopeless) = state.withLock { state -> (Request?, Bool) in
            guard state.run == request.run else { return (nil, false) }
            state.restarts += 1
            guard state.restarts <= Self.maximumRestarts else { return (nil, true) }
            let moved = state.hasMoved
            _ = restart(&state, at: state.base)
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
            _ = restart(&state, at: state.base)
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
