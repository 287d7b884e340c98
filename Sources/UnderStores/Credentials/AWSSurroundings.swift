import Glibc
import Platform
import SystemPackage

/// What AWS settings and credentials are looked for in; replaceable for tests.
package struct AWSSurroundings: Sendable {
    package var environment: [String: String]
    /// CLOCK_REALTIME.
    package var now: @Sendable () -> FileTime
    /// 0..<1; spreads the refreshes of many nodes.
    package var jitter: @Sendable () -> Double
    /// How long a `credential_process` may take.
    package var processTimeout: Duration
    /// Where files are read and processes awaited.
    package var pool: WorkerPool

    // Two: one process that hangs does not hold up the reading of a file.
    private static let sharedPool = WorkerPool(name: "credentials", threads: 2)

    package init(
        environment: [String: String], now: @escaping @Sendable () -> FileTime = { .now() },
        jitter: @escaping @Sendable () -> Double = { Double.random(in: 0..<1) },
        processTimeout: Duration = .seconds(60), pool: WorkerPool? = nil
    ) {
        self.environment = environment
        self.now = now
        self.jitter = jitter
        self.processTimeout = processTimeout
        self.pool = pool ?? Self.sharedPool
    }

    /// A variable that is set and not empty.
    subscript(_ variable: String) -> String? {
        guard let value = environment[variable], !value.isEmpty else { return nil }
        return value
    }

    func isTrue(_ variable: String) -> Bool { self[variable]?.lowercased() == "true" }

    /// A path with a leading `~` taken for the home directory: HOME, or the account's.
    func expand(_ path: String) -> String {
        guard path == "~" || path.hasPrefix("~/") else { return path }
        let home = self["HOME"] ?? getpwuid(geteuid()).map { String(cString: $0.pointee.pw_dir) } ?? "/"
        return home + path.dropFirst()
    }

    /// A whole file of at most 1 MiB; nil when there is none. Blocks.
    func contents(of path: String) throws(StoreError) -> [UInt8]? {
        do throws(Errno) {
            return try Self.read(expand(path))
        } catch .noSuchFileOrDirectory, .notDirectory {
            return nil
        } catch {
            throw StoreError(.accessDenied, "cannot read \(path): \(error)")
        }
    }

    private static func read(_ path: String) throws(Errno) -> [UInt8] {
        let limit = 1 << 20
        // O_NONBLOCK: a pipe in the place of the file must not hold us up.
        let file = try Descriptor.open(path, O_RDONLY | O_NONBLOCK)
        guard try file.status().isRegularFile else { throw .invalidArgument }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: limit + 1, alignment: 8)
        defer { buffer.deallocate() }
        let count = try file.read(into: buffer, at: 0)
        guard count <= limit else { throw .fileTooLarge }
        return Array(buffer[..<count])
    }

    /// `contents(of:)` as text, without surrounding white space, from async code.
    func text(of path: String) async throws(StoreError) -> String? {
        try await pool.run { () throws(StoreError) in
            guard let bytes = try contents(of: path) else { return nil }
            let text = String(decoding: bytes, as: UTF8.self).drop(while: \.isWhitespace)
            return text.lastIndex { !$0.isWhitespace }.map { String(text[...$0]) } ?? ""
        }
    }
}
