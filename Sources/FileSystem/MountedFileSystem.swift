import Coordination
import Logging
import Platform
import Synchronization
import SystemPackage

/// POSIX semantics of one mount, without FUSE and without stores.
///
/// Inode numbers are the coordinator's, and it decides every change, so nothing is kept here but what is open and who
/// holds locks. Calls return at once; what needs the coordinator is answered through a closure, usually on its receive thread,
/// where the closure must not block. Locks are leaves: none is held while another is taken or a closure is called.
package final class MountedFileSystem: Sendable {
    package typealias Answer<Value> = @Sendable (Result<Value, Errno>) -> Void

    package let link: CoordinatorLink
    let logger: Logger
    let openInodes = OpenInodeTable()
    let knownDirectories = KnownDirectories()
    private let passthrough = Atomic<Bool>(false)
    private let isStopped = Atomic<Bool>(false)
    let locks: HeldLocks
    /// What successors of this process know.
    let memory: SessionMemory
    let requests: RequestLog
    /// The kernel's handles.
    package let files = HandleTable<OpenFile>(capacity: SessionMemory.fileCapacity)
    package let directories = HandleTable<DirectoryHandle>(capacity: SessionMemory.directoryCapacity)
    /// Handles of a predecessor's opens by the request that opened them: one that the kernel sends again it has never heard of.
    let inheritedOpens = Lock<[UInt64: UInt64]>([:])
    /// Grows with each change of names through this mount, which may change how many links an open file has.
    let namesEpoch = Atomic<UInt64>(0)
    private let onStalePages = Lock<(@Sendable (UInt64) -> Void)?>(nil)
    /// For what waits for a disk; its tasks may take long.
    static let fileWorkers = WorkerPool(name: "larder-file", threads: 4)

    package init(link: CoordinatorLink, logger: Logger) {
        self.link = link
        self.logger = logger
        memory = link.memory
        requests = RequestLog(memory)
        locks = HeldLocks(memory)
        link.onReconnected { [weak self] in
            self?.knownDirectories.forgetAll()
            self?.presentLeases()
            self?.presentWriters()
            self?.presentLocks()
        }
        if memory.isTakenOver { restore() }
        startThread(named: "larder-access") { [weak self] in
            // One report a second keeps the eviction policy fresh enough and costs nothing.
            repeat { pause(milliseconds: 1000) } while self?.reportAccess() == true
        }
    }

    /// Whether opens may be answered with a backing id; set before the first open.
    package var usesPassthrough: Bool {
        get { passthrough.load(ordering: .relaxed) }
        set { passthrough.store(newValue, ordering: .relaxed) }
    }

    /// Called, on any thread, with an inode whose pages in the kernel are wrong. Set before the first open.
    package func onStalePages(_ handler: @escaping @Sendable (UInt64) -> Void) {
        onStalePages.withLock { $0 = handler }
    }

    func dropPages(of inode: UInt64) { onStalePages.withLock { $0 }?(inode) }

    /// The coordinator has said that what is known of these inodes, and of names in these directories, is no longer right.
    /// Any thread; sends nothing.
    package func forget(inodes: [UInt64], namesIn parents: [UInt64]) {
        knownDirectories.forget(inodes, namesIn: parents)
        for inode in inodes {
            openInodes.find(inode)?.writing?.noteStale()
            openInodes.retire(inode)
        }
    }

    /// Ends the background work; the link stays.
    package func stop() { isStopped.store(true, ordering: .relaxed) }

    // MARK: Access reports

    /// Tells the coordinator what was read. False when the mount has ended.
    private func reportAccess() -> Bool {
        guard !isStopped.load(ordering: .relaxed) else { return false }
        let generation = link.generation
        var report = WireAccessReport()
        for inode in openInodes.all() {
            guard let lease = inode.reportableLease(generation) else { continue }
            for range in inode.takeTouched() { report.add(lease, range) }
            // Some 30 bytes each: far below the largest message.
            if report.ranges.count >= 1024 {
                link.notify(.accessReport(report), boundTo: generation)
                report.ranges = []
            }
        }
        if !report.ranges.isEmpty { link.notify(.accessReport(report), boundTo: generation) }
        return true
    }

    func reportLastAccess(_ inode: OpenInode) {
        let generation = link.generation
        guard let lease = inode.reportableLease(generation) else { return }
        var report = WireAccessReport()
        for range in inode.takeTouched() { report.add(lease, range) }
        if !report.ranges.isEmpty { link.notify(.accessReport(report), boundTo: generation) }
    }
}

extension WireAccessReport {
    fileprivate mutating func add(_ lease: UInt64, _ part: Swift.Range<UInt64>) {
        var range = Range()
        range.lease = lease
        range.offset = part.lowerBound
        range.length = part.upperBound - part.lowerBound
        ranges.append(range)
    }
}

extension OpenInode {
    /// The lease to report under: of a cache file, and of this connection.
    fileprivate func reportableLease(_ generation: UInt64) -> UInt64? {
        withPath { path in
            (path.kind == .mapped || path.kind == .whole) && path.generation == generation ? path.lease : nil
        }
    }
}
