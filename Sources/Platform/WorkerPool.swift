import CLinux
import Glibc

/// Starts a detached thread with all signals blocked; `name` is what `ps -L` shows (15 bytes at most).
package func startThread(named name: String, _ body: @escaping @Sendable () -> Void) {
    final class Box {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    let box = Unmanaged.passRetained(Box(name: name, body: body))
    var all = sigset_t()
    var previous = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, &previous)
    defer { pthread_sigmask(SIG_SETMASK, &previous, nil) }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, CInt(PTHREAD_CREATE_DETACHED))
    defer { pthread_attr_destroy(&attributes) }
    var thread = pthread_t()
    let result = pthread_create(
        &thread, &attributes,
        { pointer in
            let box = Unmanaged<Box>.fromOpaque(pointer!).takeRetainedValue()
            _ = larder_set_thread_name(box.name)
            box.body()
            return nil
        }, box.toOpaque())
    precondition(result == 0, "pthread_create failed: \(result)")
}

/// A fixed set of owned threads that runs closures and Swift tasks, so that blocking calls (files, LMDB) never run on
/// Swift's cooperative pool. Use it as a task executor: `Task(executorPreference: pool) { … }`.
package final class WorkerPool: TaskExecutor, @unchecked Sendable {
    private enum Work {
        case closure(@Sendable () -> Void)
        case job(UnownedJob)
    }

    private let monitor = Monitor()
    private var queue: [Work] = []
    private var head = 0

    /// - Parameters:
    ///   - name: the threads' name, 12 bytes at most.
    ///   - threads: 1…; they live as long as the process, so make few pools and keep them.
    package init(name: String, threads: Int) {
        for index in 0..<max(1, threads) {
            startThread(named: "\(name)-\(index)") { [self] in run() }
        }
    }

    /// Runs `body` on one of the threads, in the order of submission. Any thread.
    package func submit(_ body: @escaping @Sendable () -> Void) { append(.closure(body)) }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if let start = StartHere.current, start.pool === self, start.job == nil {
            start.job = job
        } else {
            append(.job(job))
        }
    }

    /// Runs `body`, which makes a task on this pool, and then the first step of that task on this thread, up to where it
    /// waits for something; what follows runs on the pool. Spares two threads the change over to each other. The calling
    /// thread must be one that may block.
    @available(*, noasync, message: "runs the task's first step on its thread")
    package func startingHere(_ body: () -> Void) {
        let start = StartHere(self)
        StartHere.current = start
        body()
        StartHere.current = nil
        start.job?.runSynchronously(on: asUnownedTaskExecutor())
    }

    /// What a thread in `startingHere` waits for.
    private final class StartHere {
        let pool: WorkerPool
        var job: UnownedJob?
        init(_ pool: WorkerPool) { self.pool = pool }

        private static let key: pthread_key_t = {
            var key = pthread_key_t()
            let result = pthread_key_create(&key, nil)
            precondition(result == 0, "pthread_key_create failed: \(result)")
            return key
        }()

        /// Of this thread.
        static var current: StartHere? {
            get { pthread_getspecific(key).map { Unmanaged<StartHere>.fromOpaque($0).takeUnretainedValue() } }
            set { pthread_setspecific(key, newValue.map { UnsafeRawPointer(Unmanaged.passUnretained($0).toOpaque()) }) }
        }
    }

    /// Whether the current task runs on this pool's threads.
    package var isCurrent: Bool {
        withUnsafeCurrentTask { $0?.unownedTaskExecutor } == asUnownedTaskExecutor()
    }

    /// Runs a blocking `body` on one of the threads and resumes with its result: at once when this is one of them.
    package func run<Result: Sendable, Failure: Error>(
        _ body: @escaping @Sendable () throws(Failure) -> Result
    ) async throws(Failure) -> Result {
        if isCurrent { return try body() }
        let outcome: Swift.Result<Result, Failure> = await withCheckedContinuation { continuation in
            submit {
                do throws(Failure) { continuation.resume(returning: .success(try body())) } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try outcome.get()
    }

    private func append(_ work: Work) {
        monitor.lock()
        queue.append(work)
        monitor.unlock()
        // Afterwards, so that who wakes up does not wait for the lock at once.
        monitor.signal()
    }

    private func run() -> Never {
        while true {
            switch blockingWaitForWork() {
            case .closure(let body): body()
            case .job(let job): job.runSynchronously(on: asUnownedTaskExecutor())
            }
        }
    }

    @inline(never)
    private func blockingWaitForWork() -> Work {
        monitor.lock()
        defer { monitor.unlock() }
        while head == queue.count { monitor.wait() }
        let work = queue[head]
        head += 1
        if head == queue.count {
            queue.removeAll(keepingCapacity: head < 1024)
            head = 0
        } else if head > 1024, head > queue.count / 2 {
            queue.removeFirst(head)
            head = 0
        }
        return work
    }
}
