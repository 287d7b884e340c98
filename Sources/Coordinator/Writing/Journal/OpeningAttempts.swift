import Glibc
import Platform
import SystemPackage

/// How often the journal was opened without being read to its end: each time the process died meanwhile, by a kill or
/// because of what is in the file. The file `journal.opening` is as long as the number of attempts.
struct OpeningAttempts: Sendable {
    /// After so many a kill each time is less likely than damage.
    static let patience: UInt64 = 4

    private let path: String

    init(directory: String) { path = directory + "/journal.opening" }

    /// Notes an attempt; returns how many there were, with this one.
    func begin() -> UInt64 {
        guard let file = try? Descriptor.open(path, O_RDWR | O_CREAT), let count = try? file.status().size else {
            return 1
        }
        try? file.resize(to: count + 1)
        return count + 1
    }

    func end() { unlink(path) }
}
