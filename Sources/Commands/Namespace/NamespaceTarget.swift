import Glibc
import Platform
import SystemPackage

/// A path in a Larder mount, as the coordinator knows it.
package struct NamespaceTarget: Hashable, Sendable {
    /// As the user wrote it.
    package let path: String
    /// The socket of the mount's coordinator.
    package let socket: String
    package let inode: UInt64

    package init(path: String, socket: String, inode: UInt64) {
        self.path = path
        self.socket = socket
        self.inode = inode
    }

    /// Asks the mount itself, by extended attributes: no configuration, and a symbolic link to a Larder file works too.
    /// - Throws: `CommandFailure`: noInput when there is no such path, dataError when it is not in a Larder mount.
    package init(path: String) throws(CommandFailure) {
        let socket: ByteString
        let inode: UInt64
        do throws(Errno) {
            socket = try ExtendedAttribute.value("user.larder.coordinator", of: path)
            // The kernel shows every mount's root as inode 1.
            if let text = try? ExtendedAttribute.value("user.larder.inode", of: path),
                let number = UInt64(text.description)
            {
                inode = number
            } else {
                inode = try FileStatus(of: path).inode
            }
        } catch {
            switch error {
            case .noSuchFileOrDirectory, .notDirectory:
                throw CommandFailure(.noInput, "there is no \(path)")
            case .permissionDenied, .notPermitted:
                throw CommandFailure(.noPermission, "cannot look at \(path): \(error)")
            case .socketNotConnected:
                throw CommandFailure(
                    .unavailable, "the mount process of \(path) is gone: run larder umount on the mount point")
            default:
                throw CommandFailure(.dataError, "\(path) is not in a Larder mount: give a path below a mount point")
            }
        }
        self.init(path: path, socket: socket.description, inode: inode)
    }
}
