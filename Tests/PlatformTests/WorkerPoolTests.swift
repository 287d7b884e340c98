import Glibc
import Platform
import Testing

@Suite("WorkerPool")
struct WorkerPoolTests {
    @Test("closures of a pool with one thread run in the order of submission")
    func order() {
        let pool = WorkerPool(name: "order", threads: 1)
        let seen = Lock<[Int]>([])
        let done = OneShot<Void>()
        // More than the queue's own threshold for compaction.
        for index in 0..<5000 { pool.submit { seen.withLock { $0.append(index) } } }
        pool.submit { done.set(()) }
        #expect(done.wait(timeout: .seconds(120)) != nil)
        #expect(seen.withLock { $0 } == Array(0..<5000))
    }

    @Test("as many closures run at once as there are threads")
    func parallel() {
        let pool = WorkerPool(name: "parallel", threads: 4)
        let arrived = (0..<4).map { _ in OneShot<Void>() }
        let release = OneShot<Void>()
        for shot in arrived {
            pool.submit {
                shot.set(())
                _ = release.wait()
            }
        }
        for shot in arrived { #expect(shot.wait(timeout: .seconds(120)) != nil) }
        release.set(())
    }

    @Test("results and typed errors come back from blocking work")
    func results() async {
        struct Failure: Error, Equatable { let code: Int }
        let pool = WorkerPool(name: "results", threads: 2)
        let value = await pool.run { 42 }
        #expect(value == 42)
        do throws(Failure) {
            _ = try await pool.run { () throws(Failure) -> Int in throw Failure(code: 7) }
            Issue.record("no error came")
        } catch { #expect(error.code == 7) }
    }

    @Test("work runs on the pool's threads, not on the cooperative pool")
    func threads() async {
        let pool = WorkerPool(name: "mine", threads: 1)
        let name = await pool.run { Self.threadName() }
        #expect(name == "mine-0")
    }

    @Test("tasks that prefer the pool run on it, also after they have waited")
    func executor() async {
        let pool = WorkerPool(name: "tasks", threads: 2)
        let names = await Task(executorPreference: pool) {
            var names = [Self.threadName()]
            await Task.yield()
            names.append(Self.threadName())
            let other = await withCheckedContinuation { continuation in
                startThread(named: "elsewhere") { continuation.resume(returning: Self.threadName()) }
            }
            return names + [Self.threadName(), other]
        }.value
        #expect(names.prefix(3).allSatisfy { $0.hasPrefix("tasks-") }, "\(names)")
        #expect(names.last == "elsewhere")
    }

    @Test("thousands of tasks on the pool all end")
    func manyTasks() async {
        let pool = WorkerPool(name: "many", threads: 4)
        let total = await withTaskGroup(of: Int.self) { group in
            for index in 0..<3000 {
                group.addTask(executorPreference: pool) {
                    await Task.yield()
                    return index
                }
            }
            return await group.reduce(0, +)
        }
        #expect(total == 3000 * 2999 / 2)
    }

    @Test("a started thread blocks signals, so that they go to whoever handles them")
    func signals() {
        let blocked = OneShot<Bool>()
        let before = Self.hasBlocked(SIGUSR2)
        startThread(named: "signals") {
            blocked.set(Self.hasBlocked(SIGTERM) && Self.hasBlocked(SIGHUP) && Self.hasBlocked(SIGUSR2))
        }
        #expect(blocked.wait() == true)
        #expect(Self.hasBlocked(SIGUSR2) == before, "the starting thread's own mask is as it was")
    }

    private static func hasBlocked(_ signal: CInt) -> Bool {
        var current = sigset_t()
        pthread_sigmask(SIG_BLOCK, nil, &current)
        return sigismember(&current, signal) == 1
    }

    private static func threadName() -> String { Machine.firstLine(of: "/proc/thread-self/comm") ?? "" }
}
