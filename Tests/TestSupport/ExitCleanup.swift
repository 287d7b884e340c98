import Glibc
import Platform

/// What is left at the end of the test process, because a static property holds it, goes then: first the servers, then
/// their directories.
enum ExitCleanup {
    private struct Remains {
        var processes: Set<Int32> = []
        var directories: Set<String> = []
    }

    private static let remains: Lock<Remains> = {
        atexit { ExitCleanup.run() }
        return Lock(Remains())
    }()

    static func add(process: Int32) { remains.withLock { _ = $0.processes.insert(process) } }
    static func forget(process: Int32) { remains.withLock { _ = $0.processes.remove(process) } }
    static func add(directory: String) { remains.withLock { _ = $0.directories.insert(directory) } }
    static func forget(directory: String) { remains.withLock { _ = $0.directories.remove(directory) } }

    private static func run() {
        let left = remains.withLock { $0 }
        for process in left.processes {
            kill(process, SIGKILL)
            var status: Int32 = 0
            while waitpid(process, &status, 0) < 0, errno == EINTR {}
        }
        for directory in left.directories { TemporaryDirectory.remove(directory) }
    }
}
