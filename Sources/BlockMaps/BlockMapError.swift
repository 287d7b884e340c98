import SystemPackage

/// Why bytes are not a block map that may be used.
package enum BlockMapError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Opening, reading or mapping failed.
    case system(Errno)
    /// Not a block map, or damaged; the text says which field.
    case malformed(String)
    /// Written by a newer Larder.
    case unsupportedVersion(UInt32)
    /// A sound map, of another object or with another geometry.
    case mismatch(String)

    package var description: String {
        switch self {
        case .system(let error): "block map: \(error)"
        case .malformed(let what): "block map is malformed: \(what)"
        case .unsupportedVersion(let version): "block map has format version \(version), newer than this Larder reads"
        case .mismatch(let what): "block map belongs to something else: \(what)"
        }
    }
}
