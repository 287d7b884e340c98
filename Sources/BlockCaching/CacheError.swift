/// Why the cache cannot be opened or used. A failing tier is none of these: reads then go past the cache.
package enum CacheError: Error, Hashable, Sendable, CustomStringConvertible {
    case configuration(String)
    /// Another coordinator has the directory.
    case inUse(path: String, pid: Int32?)
    /// The directory holds something that is not a Larder cache.
    case foreign(path: String)
    /// Written by a newer Larder.
    case newerFormat(path: String, version: String)
    /// A directory or the index in it cannot be used at all.
    case unusable(path: String, reason: String)
    /// No tier can hold the object now; `readThrough` still delivers its bytes.
    case noTier
    /// The source delivered bytes out of order, too many or too few.
    case sourceViolation(String)
    /// The cache has been shut down.
    case closed

    package var description: String {
        switch self {
        case .configuration(let what): "cache configuration: \(what)"
        case .inUse(let path, let pid):
            "cache directory \(path) is in use by another coordinator\(pid.map { ", pid \($0)" } ?? "");"
                + " stop it or choose another directory"
        case .foreign(let path):
            "cache directory \(path) is not empty and not a Larder cache; choose another directory"
        case .newerFormat(let path, let version):
            "cache directory \(path) has format \(version), newer than this Larder reads; upgrade Larder or remove it"
        case .unusable(let path, let reason): "cache directory \(path) cannot be used: \(reason)"
        case .noTier: "no cache tier can take the object now"
        case .sourceViolation(let what): "the source broke its contract: \(what)"
        case .closed: "the cache is shut down"
        }
    }
}
