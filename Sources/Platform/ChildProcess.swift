import CLinux
import Glibc
import SystemPackage

/// Starting programs, and waiting for processes, of ours or not.
package enum ChildProcess {
    /// Where a started program's descriptors come from; nil is /dev/null.
    package struct Descriptors: Sendable {
        package var input, output, error: Descriptor?
        /// Becomes the program's descriptor 3.
        package var status: Descriptor?

        package init(
            input: Descriptor? = nil, output: Descriptor? = nil, error: Descriptor? = nil, status: Descriptor? = nil
        ) {
            self.input = input
            self.output = output
            self.error = error
            self.status = status
        }
    }

    /// posix_spawn(3): no signal is blocked or ignored in the program, and it has no other descriptor of this process.
    /// - Parameters:
    ///   - program: a path; not searched for in PATH.
    ///   - arguments: with the name of the program first.
    ///   - newSession: setsid(2), so that it outlives this terminal.
    ///   - directory: its working directory; nil for this process's.
    /// - Returns: the process id, for `wait(for:)`.
    package static func start(
        _ program: String, arguments: [String], environment: [String: String], descriptors: Descriptors,
        newSession: Bool, directory: String? = nil
    ) throws(Errno) -> Int32 {
        let argumentList = CStringList(arguments)
        let environmentList = CStringList(environment.map { "\($0.key)=\($0.value)" })
        var plan = larder_spawn_plan(
            standard_input: descriptors.input?.raw ?? -1, standard_output: descriptors.output?.raw ?? -1,
            standard_error: descriptors.error?.raw ?? -1, status: descriptors.status?.raw ?? -1,
            new_session: newSession ? 1 : 0, directory: nil)
        let directoryText = directory.map { CStringList([$0]) }
        plan.directory = directoryText.flatMap { $0.pointers[0] }.map { UnsafePointer($0) }
        let result = larder_spawn(program, argumentList.pointers, environmentList.pointers, &plan)
        withExtendedLifetime((descriptors, directoryText, argumentList, environmentList)) {}
        return try Errno.check(result)
    }

    /// waitpid(2): how a child of this process ended: its exit code, or 128 + the signal. Blocks.
    @available(*, noasync, message: "blocks its thread")
    package static func wait(for pid: Int32) -> Int32 {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 {
            guard errno == EINTR else { return 0 }
        }
        let signal = status & 0x7f
        return signal == 0 ? (status >> 8) & 0xff : 128 + signal
    }

    /// Whether the process runs (a zombie does not).
    package static func isRunning(_ pid: Int32) -> Bool {
        guard let state = state(of: pid) else { return false }
        return state.letter != "Z" && state.letter != "X"
    }

    /// When the process started, in clock ticks since boot: with the pid it names one process for good. nil when it is gone.
    package static func startTime(of pid: Int32) -> UInt64? {
        guard let state = state(of: pid), state.letter != "Z", state.letter != "X" else { return nil }
        return state.startTime
    }

    /// The process that started it, or what has taken its place; nil when it is gone.
    package static func parent(of pid: Int32) -> Int32? { state(of: pid)?.parent }

    // proc(5), /proc/PID/stat: the name in parentheses may itself hold spaces and parentheses.
    private static func state(of pid: Int32) -> (letter: Character, parent: Int32, startTime: UInt64)? {
        guard let line = Machine.firstLine(of: "/proc/\(pid)/stat"), let close = line.lastIndex(of: ")") else {
            return nil
        }
        let fields = line[line.index(after: close)...].split(separator: " ")
        guard fields.count > 19, let letter = fields[0].first, let parent = Int32(fields[1]),
            let start = UInt64(fields[19])
        else { return nil }
        return (letter, parent, start)
    }

    /// The path of the running program, for starting it again; it works even after the file was replaced.
    package static func currentProgram() -> String {
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = readlink("/proc/self/exe", &target, target.count - 1)
        guard length > 0 else { return "/proc/self/exe" }
        let path = String(decoding: target.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return access(path, X_OK) == 0 ? path : "/proc/self/exe"
    }
}

/// A NULL-terminated array of C strings, as exec wants it.
private final class CStringList {
    let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let count: Int

    init(_ texts: [String]) {
        count = texts.count
        pointers = .allocate(capacity: texts.count + 1)
        for (index, text) in texts.enumerated() { (pointers + index).initialize(to: strdup(text)) }
        (pointers + texts.count).initialize(to: nil)
    }

    deinit {
        for index in 0..<count { free(pointers[index]) }
        pointers.deallocate()
    }
}
