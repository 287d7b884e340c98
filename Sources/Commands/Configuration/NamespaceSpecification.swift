import Coordination
import Platform

/// One mount point of a namespace.
package struct MountEntry: Hashable, Sendable {
    /// Within the namespace: "/" or "/lake", normal.
    package let path: String
    package let source: MountSource
    package var settings: StoreSettings

    package init(path: String, source: MountSource, settings: StoreSettings = StoreSettings()) {
        self.path = path
        self.source = source
        self.settings = settings
    }
}

/// What one mount shows: a tree put together from stores.
package struct NamespaceSpecification: Hashable, Sendable {
    package let mounts: [MountEntry]

    package init(mounts: [MountEntry]) { self.mounts = mounts }

    /// Brings a path within the namespace to its normal form.
    /// - Throws: `CommandFailure` (usage) for a relative path, or one with a part that no directory can be named.
    package static func normalizeMountPath(_ text: String) throws(CommandFailure) -> String {
        guard text.hasPrefix("/") else {
            throw CommandFailure(.usage, "\"\(text)\" must start with a slash: it is a path within the namespace")
        }
        let parts = ByteString(text).components
        if let bad = parts.first(where: { !$0.isNameable }) {
            throw CommandFailure(.usage, "\"\(text)\" has the part \"\(bad)\", which no directory can be named")
        }
        return "/" + parts.map(\.description).joined(separator: "/")
    }

    /// A local source that contains the mount point, or lies beneath it, would be read through the mount itself: a wait
    /// that never ends.
    /// - Throws: `CommandFailure` (configuration).
    package func checkAgainst(mountPoint: String) throws(CommandFailure) {
        for mount in mounts {
            guard case .local(let path) = mount.source else { continue }
            let source = FilePaths.resolved(path) ?? path
            guard !FilePaths.isPath(mountPoint, within: source), !FilePaths.isPath(source, within: mountPoint) else {
                throw CommandFailure(
                    .configuration,
                    "the mount point \(mountPoint) and the source \(path) contain one another: choose a mount point "
                        + "outside of it")
            }
        }
    }

    /// Whether nothing in it can be changed.
    package var isReadOnly: Bool { mounts.allSatisfy { $0.settings[.readOnly] == "true" } }

    /// What the coordinator is asked for.
    /// - Parameter environment: the AWS_* variables to send with each S3 mount point; empty for a shared coordinator.
    package func wire(environment: [String: String]) -> WireVolumeSpecification {
        var volume = WireVolumeSpecification()
        volume.mounts = mounts.map { mount in
            var wire = WireMountSpecification()
            wire.path = mount.path
            wire.source = mount.source.description
            mount.settings.write(to: &wire)
            if case .s3 = mount.source { wire.environment = environment }
            return wire
        }
        return volume
    }

    /// The variables of the AWS credentials chain and of its configuration (AWS_*), and nothing else of the environment.
    package static func credentialVariables(of environment: [String: String]) -> [String: String] {
        environment.filter { $0.key.hasPrefix("AWS_") }
    }
}
