import CFuse
import FileSystem
import SystemPackage

extension Bridge {
    /// The table of callbacks. Operations that it lacks are answered by libfuse with ENOSYS, and the kernel then never
    /// asks again: access (default_permissions), flush, fsync, locks, lseek.
    static func operations() -> fuse_lowlevel_ops {
        var operations = fuse_lowlevel_ops()
        addReading(&operations)
        addRefusals(&operations)
        return operations
    }

    private static func addReading(_ operations: inout fuse_lowlevel_ops) {
        operations.`init` = { _, connection in
            guard let connection else { return }
            // Reads that wait for a store must not hold back other readers' readahead: the kernel's default is 12.
            connection.pointee.max_background = 128
            connection.pointee.congestion_threshold = 96
        }
        operations.lookup = { request, parent, name in
            Bridge.with(request) { bridge, request in if let name { bridge.lookup(request, parent, name) } }
        }
        operations.forget = { request, _, _ in if let request { FuseRequest(request).forgetReply() } }
        operations.forget_multi = { request, _, _ in if let request { FuseRequest(request).forgetReply() } }
        operations.getattr = { request, node, _ in Bridge.with(request) { $0.attributes($1, node) } }
        operations.readlink = { request, node in Bridge.with(request) { $0.readLink($1, node) } }
        operations.statfs = { request, node in Bridge.with(request) { $0.space($1, node) } }
        operations.open = { request, node, info in
            Bridge.with(request) { bridge, request in if let info { bridge.open(request, node, info.pointee) } }
        }
        operations.read = { request, _, size, offset, info in
            Bridge.with(request) { bridge, request in if let info { bridge.read(request, size, offset, info) } }
        }
        operations.release = { request, _, info in
            Bridge.with(request) { bridge, request in if let info { bridge.release(request, info.pointee) } }
        }
        operations.opendir = { request, node, info in
            Bridge.with(request) { bridge, request in if let info { bridge.openDirectory(request, node, info.pointee) }
            }
        }
        operations.readdir = { request, _, size, offset, info in
            Bridge.with(request) { bridge, request in
                if let info { bridge.readDirectory(request, size, offset, info.pointee, plus: false) }
            }
        }
        operations.readdirplus = { request, _, size, offset, info in
            Bridge.with(request) { bridge, request in
                if let info { bridge.readDirectory(request, size, offset, info.pointee, plus: true) }
            }
        }
        operations.releasedir = { request, _, info in
            Bridge.with(request) { bridge, request in if let info { bridge.releaseDirectory(request, info.pointee) } }
        }
        operations.getxattr = { request, node, name, size in
            Bridge.with(request) { bridge, request in
                if let name { bridge.extendedAttribute(request, node, name, size) }
            }
        }
        operations.listxattr = { request, _, size in Bridge.with(request) { $0.extendedAttributeNames($1, size) } }
    }

    /// What changes something: the mount is read-only in this release.
    private static func addRefusals(_ operations: inout fuse_lowlevel_ops) {
        operations.setattr = { request, _, _, _, _ in Bridge.refuse(request) }
        operations.mknod = { request, _, _, _, _ in Bridge.refuse(request) }
        operations.mkdir = { request, _, _, _ in Bridge.refuse(request) }
        operations.unlink = { request, _, _ in Bridge.refuse(request) }
        operations.rmdir = { request, _, _ in Bridge.refuse(request) }
        operations.symlink = { request, _, _, _ in Bridge.refuse(request) }
        operations.rename = { request, _, _, _, _, _ in Bridge.refuse(request) }
        operations.link = { request, _, _, _ in Bridge.refuse(request) }
        operations.write = { request, _, _, _, _, _ in Bridge.refuse(request) }
        operations.create = { request, _, _, _, _ in Bridge.refuse(request) }
        operations.setxattr = { request, _, _, _, _, _ in Bridge.refuse(request) }
        operations.removexattr = { request, _, _ in Bridge.refuse(request) }
        operations.fallocate = { request, _, _, _, _, _ in Bridge.refuse(request) }
    }

    private static func refuse(_ request: fuse_req_t?) {
        if let request { FuseRequest(request).fail(.readOnlyFileSystem) }
    }
}
