import Foundation
import Glibc
import Platform
import TestSupport
import Testing

/// A file that another process has open. The test process must not: each program that it starts would have the file
/// open for a moment as well, and close it, which commits it.
final class HeldFile: Sendable {
    private let node: LarderNode
    private let process: TestProcess
    private let commands: Descriptor
    private let answers = Lock(0)

    private static let program = """
        import os, sys
        file = os.open(sys.argv[2], int(sys.argv[3]), 0o644)
        def work(command, *words):
            if command == "write":
                data, offset = open(words[0], "rb").read(), int(words[1])
                while data:
                    n = os.pwrite(file, data, offset)
                    data, offset = data[n:], offset + n
            elif command == "fsync": os.fsync(file)
            elif command == "close": os.close(file)
        print(0, flush=True)
        for line in open(sys.argv[1]):
            try: work(*line.split()); print(0, flush=True)
            except OSError as error: print(error.errno, flush=True)
        """

    fileprivate init(_ node: LarderNode, _ path: String, _ flags: CInt) async throws {
        self.node = node
        let pipe = node.directory.file("commands-\(UInt32.random(in: 0 ... .max))")
        guard mkfifo(pipe, 0o600) == 0 else { throw TestSetupError("mkfifo: \(String(cString: strerror(errno)))") }
        // For reading as well, so that neither side waits for the other.
        commands = try Descriptor.open(pipe, O_RDWR)
        process = try await node.startProgram("python", ["-c", Self.program, pipe, path, "\(flags)"])
        guard await answer() == 0 else { throw TestSetupError("open \(path): \(process.output)") }
    }

    /// The errno, 0 for success.
    func write(_ bytes: [UInt8], at offset: Int = 0) async throws -> CInt {
        try node.directory.write("held-data", bytes)
        return try await perform("write \(node.directory.file("held-data")) \(offset)")
    }

    func synchronize() async throws -> CInt { try await perform("fsync") }
    func close() async throws -> CInt { try await perform("close") }

    private func perform(_ command: String) async throws -> CInt {
        let line = Array("\(command)\n".utf8)
        guard line.withUnsafeBytes({ Glibc.write(commands.raw, $0.baseAddress, $0.count) }) == line.count else {
            throw TestSetupError("write to a pipe: \(String(cString: strerror(errno)))")
        }
        return await answer()
    }

    private func answer() async -> CInt {
        let count = answers.withLock { count in
            count += 1
            return count
        }
        func lines() -> [Substring] { process.output.split(separator: "\n") }
        await becomes("answer \(count) of the program that has the file open", within: .seconds(120)) {
            lines().count >= count || !process.isRunning
        }
        guard lines().count >= count else { return -1 }
        return CInt(lines()[count - 1]) ?? -1
    }
}

extension LarderNode {
    /// Opens a file of a mount in a process of its own.
    func hold(_ path: String, _ flags: CInt) async throws -> HeldFile { try await HeldFile(self, path, flags) }
}

/// open(2), with the file closed again: -1 with its errno, or 0.
func openError(_ path: String, _ flags: CInt) -> CInt {
    let file = open(path, flags, 0o644)
    if file >= 0 { close(file) }
    return file < 0 ? -1 : 0
}

/// The errno of a call that gives -1 for failure, made on a thread of its own; 0 when it succeeded.
func errorNumber(_ call: @escaping @Sendable () -> CInt) async throws -> CInt {
    try await onThread { call() < 0 ? errno : 0 }
}
