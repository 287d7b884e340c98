import Glibc

/// A place where a target is known not to be what ext4 is, and why. `docs/semantics.md` says the same to users.
///
/// The suite fails when one is missing here, and as well when one is here that does not exist.
struct Difference: Sendable {
    let target: ConformanceTarget
    /// The name of the case, and of the check in it.
    let testCase: String
    let check: String
    /// What the call gives there; nil for a check that is not of an errno.
    let errorNumber: CInt?
    let reason: String

    static let documented: [Difference] = []
}
