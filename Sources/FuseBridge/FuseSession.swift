import CFuse
import FileSystem
import Glibc
import Logging
import Platform
import Synchronization
import SystemPackage

/// A libfuse session on owned threads, which share one descriptor and never become fewer.
final class FuseSession: @unchecked Sendable {
    private let session: OpaquePointer
    private let context: UnsafeMutablePointer<larder_fuse_context>
    private let bridge: Unmanaged<Bridge>
    private let runningThreads = Atomic<Int>(0)
    /// Tells the kernel what it must forget. Never a FUSE or receive thread: the kernel may wait for their answers.
    private let notifier = WorkerThread(name: "larder-notify")
    private let ended = OneShot<Bool>()
    private let memory: SessionMemory

    /// Serves a mounted connection, from its start or, when another process has served it before, from where that was. Throws
    /// the errno of libfuse.
    init(_ device: Descriptor, _ bridge: Bridge, _ memory: SessionMemory) throws(Errno) {
        self.memory = memory
        context = .allocate(capacity: 1)
        context.initialize(to: larder_fuse_context())
        self.bridge = .passRetained(bridge)
        context.pointee.bridge = self.bridge.toOpaque()
        context.pointee.wants_passthrough = 1
        context.pointee.saved = memory.initialization
        context.pointee.saved_capacity = SessionMemory.initializationCapacity
        context.pointee.replays = memory.isTakenOver ? 1 : 0
        var operations = Bridge.operations(readOnly: bridge.isReadOnly)
        // The session closes the number that it is given.
        let own = fcntl(device.raw, F_DUPFD_CLOEXEC, 0)
        guard own >= 0, let session = larder_fuse_session_new(&operations, context, own) else {
            let error = Errno(rawValue: errno)
            if own >= 0 { Glibc.close(own) }
            self.bridge.release()
            context.deallocate()
            throw error
        }
        self.session = session
        context.pointee.session = Unmanaged.passUnretained(self).toOpaque()
    }

    /// The session of a request, on one of its threads.
    static func of(_ request: fuse_req_t) -> FuseSession? {
        guard let user = fuse_req_userdata(request) else { return nil }
        let context = user.assumingMemoryBound(to: larder_fuse_context.self)
        return Unmanaged<FuseSession>.fromOpaque(context.pointee.session).takeUnretainedValue()
    }

    /// Whether INIT agreed on passthrough.
    var hasPassthrough: Bool { context.pointee.has_passthrough != 0 }

    /// Whether another process could go on when this one dies: the kernel then sends again what was not answered.
    var isResumable: Bool { context.pointee.has_resend != 0 }

    /// Has the kernel send again what the process before this one has read and not answered. Before `start`: it would send what
    /// this one has read as well.
    func resend() throws(Errno) { _ = try Errno.check(larder_fuse_resend(fuse_session_fd(session))) }

    /// Answers FUSE_INIT on this thread; the kernel sends nothing else before. False: the kernel and libfuse disagree.
    func negotiate() -> Bool {
        serve(once: true)
        return fuse_session_exited(session) == 0 && context.pointee.kernel_minor > 0
    }

    /// Starts the threads; they end when the file system is unmounted.
    func start(threads: Int) {
        runningThreads.store(threads, ordering: .relaxed)
        for index in 0..<threads {
            startThread(named: "larder-fuse-\(index)") { [self] in
                serve(once: false)
                if runningThreads.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { end() }
            }
        }
    }

    private func serve(once: Bool) {
        var buffer = fuse_buf()
        // As libfuse would, but with its pages in place: the kernel cannot bring one while this process is being killed, and
        // would answer the request that it copies with EIO.
        let size = 257 * sysconf(CInt(_SC_PAGESIZE))
        buffer.mem = malloc(size)
        if let memory = buffer.mem { memset(memory, 0xff, size) }
        defer { free(buffer.mem) }
        while fuse_session_exited(session) == 0 {
            let count = fuse_session_receive_buf(session, &buffer)
            if count == -EINTR { continue }
            guard count > 0 else { return fuse_session_exit(session) }
            CurrentRequest.set(larder_fuse_unique(&buffer, count))
            fuse_session_process_buf(session, &buffer)
            if once { return }
        }
    }

    private func end() {
        bridge.takeUnretainedValue().busy.end()
        // Behind the notifications under way: afterwards there is no session for them.
        notifier.submit { [self] in
            notifier.stop()
            ended.set(true)
        }
    }

    @available(*, noasync, message: "blocks its thread")
    func waitForEnd() { _ = ended.wait() }

    /// Frees libfuse's memory when nothing can use it any more.
    deinit {
        fuse_session_destroy(session)
        bridge.release()
        context.deallocate()
    }

    // MARK: Notifications

    /// Makes the kernel forget names in directories, and attributes and pages of nodes; then calls `done`.
    ///
    /// The kernel takes the lock of the directory, or of a page that is being read, so this may last as long as a request
    /// that is under way; one that it keeps waiting must not wait for `done`. Dropped when the session has ended.
    func forget(
        names: [(parent: fuse_ino_t, name: ByteString)], nodes: [fuse_ino_t], then done: @escaping @Sendable () -> Void
    ) {
        notifier.submit { [self] in
            for (parent, name) in names {
                bridge.takeUnretainedValue().busy.wait(for: parent)
                _ = name.withCString { fuse_lowlevel_notify_inval_entry(session, parent, $0, name.count) }
            }
            // Length 0: all pages, and the attributes.
            for node in nodes { _ = fuse_lowlevel_notify_inval_inode(session, node, 0, 0) }
            done()
        }
    }
}
