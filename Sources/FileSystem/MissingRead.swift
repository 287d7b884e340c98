import Coordination
import Platform
import Synchronization
import SystemPackage

/// One read that waits for a fetch: asks for what is absent, reads again, and starts over when it was evicted
/// meanwhile.
final class MissingRead: Sendable {
    private let fileSystem: MountedFileSystem
    private let file: OpenFile
    private let offset: UInt64
    private let count: Int
    private let answer: MountedFileSystem.Answer<ReadBytes>
    private let attempts = Atomic<Int>(0)
    /// The last answer was a memory file with only a part of the read: the next must have all of it.
    private let needsAll = Atomic<Bool>(false)

    /// Evicted so often between its fetch and its read, a range is better failed than asked for without end.
    private static let maximumAttempts = 8
    /// How many of the attempts wait for the cache file; the others bypass it.
    private static let attemptsInCache = 3
    /// A sequential reader of what is not kept gets so much at once into its side buffer: the largest kernel read.
    private static let readThroughAhead = UInt64(ReadBuffer.size)

    init(
        _ fileSystem: MountedFileSystem, _ file: OpenFile, _ offset: UInt64, _ count: Int,
        _ answer: @escaping MountedFileSystem.Answer<ReadBytes>
    ) {
        self.fileSystem = fileSystem
        self.file = file
        self.offset = offset
        self.count = count
        self.answer = answer
    }

    /// Not on a receive thread.
    func start() {
        let path = file.inode.path
        if path.isRestored { return renewLease(path) }
        if path.isLive { return answer(.failure(.ioError)) }  // its read error was the disk's
        if path.generation != fileSystem.link.generation { return renewLease(path) }
        fileSystem.readAhead(file, offset, count, missed: true)
        fetch(path)
    }

    private func again() {
        guard attempts.wrappingAdd(1, ordering: .relaxed).newValue < Self.maximumAttempts else {
            return answer(.failure(.ioError))
        }
        fileSystem.link.workers.submit { [self] in
            if !readHere() { start() }
        }
    }

    private func renewLease(_ lost: DataPath) {
        fileSystem.reopen(file.inode, insteadOf: lost) { [self] error in
            switch error {
            case nil: again()
            case .some(let error):
                // An orphan's own descriptors may still have the bytes.
                if !readHere() { answer(.failure(error)) }
            }
        }
    }

    private func fetch(_ path: DataPath) {
        let end = min(offset + UInt64(count), path.size)
        guard offset < end else { return deliver(UnsafeRawBufferPointer(start: nil, count: 0)) }
        guard let absent = wanted(path, end) else {
            if !readHere() { again() }
            return
        }
        var request = WireFetch(path.lease, absent, prefetch: false)
        request.bypass = mustBypass
        fileSystem.link.request(.fetch(request), boundTo: path.generation) { [self] result in
            switch result {
            case .success(let reply): fetched(reply)
            case .failure(.disconnected): fileSystem.link.workers.submit { [self] in renewLease(path) }
            case .failure(let error): answer(.failure(error.errno))
            }
        }
    }

    /// Evicted again and again before they could be read, the bytes are wanted in memory.
    private var mustBypass: Bool { attempts.load(ordering: .relaxed) >= Self.attemptsInCache }

    private func wanted(_ path: DataPath, _ end: UInt64) -> Range<UInt64>? {
        switch path.kind {
        case .mapped:
            if mustBypass { return offset..<end }
            let missing = path.missing(in: offset..<end)
            return needsAll.load(ordering: .relaxed) && missing != nil ? offset..<end : missing
        case .readThrough:
            let isSequential = file.followsLastMiss(offset, end)
            return offset..<(isSequential ? max(end, min(offset + Self.readThroughAhead, path.size)) : end)
        case .passthrough, .whole, .inline, .source, .staged: return offset..<end
        }
    }

    /// On the receive thread: reads and answers, but sends nothing.
    private func fetched(_ reply: CoordinatorLink.Reply) {
        guard case .fetched(let fetched) = reply.body else { return answer(.failure(.protocolError)) }
        if let memory = reply.descriptors.first {
            let (end, isBeyond) = fetched.offset.addingReportingOverflow(fetched.length)
            guard !isBeyond else { return answer(.failure(.protocolError)) }
            file.keep(.init(file: memory, range: fetched.offset..<end))
            needsAll.store(true, ordering: .relaxed)
        }
        if !readHere() { again() }
    }

    private func readHere() -> Bool {
        let buffer = UnsafeMutableRawBufferPointer(rebasing: ReadBuffer.current()[..<count])
        guard let read = fileSystem.readWithoutNotice(file, at: offset, into: buffer) else { return false }
        deliver(UnsafeRawBufferPointer(rebasing: buffer[..<read]))
        return true
    }

    private func deliver(_ bytes: UnsafeRawBufferPointer) { answer(.success(ReadBytes(bytes: bytes))) }
}
