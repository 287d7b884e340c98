import Glibc
import Platform
import SystemPackage

/// Runs the `credential_process` of a profile with /bin/sh and reads the credentials that it prints as JSON.
///
/// Its standard error goes nowhere, since it could hold secrets; a program that takes too long is killed with all
/// that it has started.
struct CredentialProcess: Sendable {
    let command: String
    let profile: String
    let surroundings: AWSSurroundings

    private static let outputLimit = 256 << 10
    private var subject: String { "the credential_process of profile \"\(profile)\"" }

    /// Throws `.accessDenied` when the program fails, `.unavailable` when it takes too long, `.protocolViolation` when
    /// it prints something else.
    func run() async throws(StoreError) -> AWSCredentials {
        let output = try await surroundings.pool.run { () throws(StoreError) in try blockingRun() }
        let document = try CredentialsDocument(output, from: subject)
        guard document.version == 1 else {
            throw StoreError(.protocolViolation, "\(subject) did not answer with \"Version\": 1")
        }
        let credentials = try document.credentials(from: subject)
        if let expiry = credentials.expiry, expiry <= surroundings.now() {
            throw StoreError(.accessDenied, "\(subject) gave credentials that have expired")
        }
        return credentials
    }

    private func blockingRun() throws(StoreError) -> [UInt8] {
        let deadline = MonotonicClock.now() + nanoseconds(surroundings.processTimeout)
        let (pid, output) = try start()
        var isReaped = false
        defer {
            if !isReaped {
                kill(-pid, SIGKILL)  // its whole group: a child of it may hold the output open
                _ = waitpid(pid, nil, 0)
            }
        }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while true {
            try waitForOutput(of: output, until: deadline)
            let count = Glibc.read(output.raw, &piece, piece.count)
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                throw StoreError(.inputOutput, "cannot read from \(subject)")
            }
            bytes += piece.prefix(count)
            guard bytes.count <= Self.outputLimit else {
                throw StoreError(.protocolViolation, "\(subject) printed more than \(Self.outputLimit) bytes")
            }
        }
        var status: CInt = 0
        while true {
            let result = waitpid(pid, &status, WNOHANG)
            if result == pid { break }
            if result < 0 && errno != EINTR { break }  // ECHILD: somebody ignores SIGCHLD; the output must do
            guard MonotonicClock.now() < deadline else { throw tookTooLong }
            pause(milliseconds: 2)
        }
        isReaped = true
        guard status == 0 else {
            let how = status & 0x7F == 0 ? "ended with exit code \(status >> 8 & 0xFF)" : "was killed"
            throw StoreError(.accessDenied, "\(subject) \(how); run it by hand to see why")
        }
        return bytes
    }

    private func waitForOutput(of output: Descriptor, until deadline: UInt64) throws(StoreError) {
        while true {
            let now = MonotonicClock.now()
            guard now < deadline else { throw tookTooLong }
            var item = pollfd(fd: output.raw, events: Int16(POLLIN), revents: 0)
            let milliseconds = CInt(clamping: (deadline - now) / 1_000_000 + 1)
            if poll(&item, 1, milliseconds) > 0 { return }
        }
    }

    private var tookTooLong: StoreError {
        StoreError(.unavailable, "\(subject) took longer than \(surroundings.processTimeout)")
    }

    private func start() throws(StoreError) -> (pid: pid_t, output: Descriptor) {
        do throws(Errno) {
            let (output, input) = try Descriptor.pipe()
            // In a session of its own, and with it in a process group that can be killed as one.
            let pid = try ChildProcess.start(
                "/bin/sh", arguments: ["/bin/sh", "-c", command], environment: surroundings.environment,
                descriptors: .init(output: input), newSession: true)
            return (pid, output)
        } catch {
            throw StoreError(.unavailable, "cannot start \(subject): \(error)")
        }
    }

    private func nanoseconds(_ duration: Duration) -> UInt64 {
        let (seconds, attoseconds) = duration.components
        return UInt64(max(0, seconds)) * 1_000_000_000 + UInt64(max(0, attoseconds / 1_000_000_000))
    }
}
