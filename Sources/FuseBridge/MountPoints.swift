import Platform

/// The Larder mounts that this process sees.
package enum MountPoints {
    /// The type in mount tables.
    package static let type = "fuse.larder"

    package static func list() -> [MountTableEntry] { MountTable.entries().filter { $0.type == type } }
}
