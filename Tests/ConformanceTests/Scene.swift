import Glibc
import Platform
import TestSupport

/// One case, running: what it may use, and what it found. One thread.
final class Scene {
    /// An empty directory of the target, mode 0755, owned by root.
    let at: Place
    let target: ConformanceTarget
    /// The same file system mounted read-only, with the file "file" and the directory "directory" in it.
    let readOnly: Place
    private let name: String
    private var known: [Difference]
    private(set) var failures: [String] = []

    init(case name: String, on target: ConformanceTarget, at: Place, readOnly: Place) {
        self.name = name
        self.target = target
        self.at = at
        self.readOnly = readOnly
        known = Difference.documented.filter { $0.target == target && $0.testCase == name }
    }

    func ok(_ what: String, _ got: CInt) { expect(what, 0, got) }

    /// Compares an errno (0 is success) with the one that POSIX and Linux's own file systems have.
    func expect(_ what: String, _ wanted: CInt, _ got: CInt) {
        judge(what, holds: got == wanted, "gave \(errnoName(got)), not \(errnoName(wanted))", got)
    }

    /// As `expect`, where several are right: POSIX leaves it open, or the kernel's version decides.
    func expect(_ what: String, anyOf wanted: [CInt], _ got: CInt) {
        let names = wanted.map(errnoName).joined(separator: " or ")
        judge(what, holds: wanted.contains(got), "gave \(errnoName(got)), not \(names)", got)
    }

    func equal<Value: Equatable>(_ what: String, _ got: Value, _ wanted: Value) {
        judge(what, holds: got == wanted, "is \(got), not \(wanted)", nil)
    }

    func check(_ what: String, _ holds: Bool) { judge(what, holds: holds, "does not hold", nil) }

    /// Ends the case when it did not succeed: what follows needs it.
    func need(_ what: String, _ got: CInt) throws {
        expect(what, 0, got)
        if got != 0 { throw CaseEnded() }
    }

    /// The value, or the end of the case: what follows needs it.
    func require<Value>(_ what: String, _ value: Value?) throws -> Value {
        judge(what, holds: value != nil, "is not there", nil)
        guard let value else { throw CaseEnded() }
        return value
    }

    /// To be called after the case: a documented difference that was not met is wrong too.
    func finish() {
        for difference in known {
            failures.append("\(difference.check): documented as different on \(target), but was not met")
        }
    }

    /// Whether the target can have this; `lacking` checks what happens where it cannot.
    func has(_ feature: Feature) -> Bool { target.lacks[feature] == nil }

    func fail(_ message: String) { failures.append(message) }

    private func judge(_ what: String, holds: Bool, _ verdict: String, _ errorNumber: CInt?) {
        guard let index = known.firstIndex(where: { $0.check == what }) else {
            if !holds { failures.append("\(what) \(verdict)") }
            return
        }
        let difference = known.remove(at: index)
        if holds {
            failures.append("\(what): documented as different on \(target), but it is not any more")
        } else if difference.errorNumber != errorNumber {
            let documented = difference.errorNumber.map(errnoName) ?? "no errno"
            failures.append("\(what) \(verdict), and \(documented) is documented")
        }
    }
}

/// Thrown when the rest of a case makes no sense; why has been recorded.
struct CaseEnded: Error {}

/// One named behaviour of a file system.
struct ConformanceCase: Sendable, CustomStringConvertible {
    /// A sentence that says what holds.
    let name: String
    /// Runs on a thread of its own, as root, with umask 0 and its own working directory.
    let body: @Sendable (Scene) throws -> Void

    init(_ name: String, _ body: @escaping @Sendable (Scene) throws -> Void) {
        self.name = name
        self.body = body
    }

    var description: String { name }

    /// Runs the case in a directory of its own and returns what is wrong.
    func run(on target: ConformanceTarget) async throws -> [String] {
        let file = try await target.fileSystem()
        let directory = "case-\(MonotonicClock.now())-\(UInt32.random(in: 0 ... .max))"
        return try await withCheckedThrowingContinuation { continuation in
            startThread(named: "conformance") {
                ThreadState.becomeOwn()
                let place = Place(root: "\(file.writable)/\(directory)")
                let made = mkdir(place.root, 0o755) < 0 ? errno : 0
                guard made == 0 else {
                    return continuation.resume(
                        throwing: TestSetupError("mkdir \(place.root): \(errnoName(made))"))
                }
                let scene = Scene(case: name, on: target, at: place, readOnly: Place(root: file.readOnly))
                do { try body(scene) } catch is CaseEnded {} catch { scene.fail("ended with \(error)") }
                scene.finish()
                place.removeAll()
                continuation.resume(returning: scene.failures)
            }
        }
    }
}

/// The symbolic name of an errno, "0" for success.
func errnoName(_ number: CInt) -> String {
    if number == 0 { return "success" }
    return errnoNames[number] ?? "errno \(number)"
}

private let errnoNames: [CInt: String] = [
    EPERM: "EPERM", ENOENT: "ENOENT", EIO: "EIO", ENXIO: "ENXIO", EBADF: "EBADF", EAGAIN: "EAGAIN", ENOMEM: "ENOMEM",
    EACCES: "EACCES", EBUSY: "EBUSY", EEXIST: "EEXIST", EXDEV: "EXDEV", ENODEV: "ENODEV", ENOTDIR: "ENOTDIR",
    EISDIR: "EISDIR", EINVAL: "EINVAL", ENOTTY: "ENOTTY", ETXTBSY: "ETXTBSY", EFBIG: "EFBIG", ENOSPC: "ENOSPC",
    ESPIPE: "ESPIPE", EROFS: "EROFS", EMLINK: "EMLINK", ERANGE: "ERANGE", ENAMETOOLONG: "ENAMETOOLONG",
    ENOSYS: "ENOSYS", ENOTEMPTY: "ENOTEMPTY", ELOOP: "ELOOP", ENODATA: "ENODATA", EOVERFLOW: "EOVERFLOW",
    EOPNOTSUPP: "EOPNOTSUPP", ESTALE: "ESTALE", EDEADLK: "EDEADLK", E2BIG: "E2BIG", ENOTCONN: "ENOTCONN",
]
