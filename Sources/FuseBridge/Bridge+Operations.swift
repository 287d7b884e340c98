import CFuse
import FileSystem
import SystemPackage

extension Bridge {
    /// The table of callbacks. Operations that it lacks are answered by libfuse with ENOSYS, and the kernel then never
    /// asks again: access (default_permissions) and, in a read-only mount, locks, which the kernel then keeps by itself.
    static func operations(readOnly: Bool) -> fuse_lowlevel_ops {
        var operations = fuse_lowlevel_ops()
        addReading(&operations)
        addNames(&operations)
        addWriting(&operations)
        if !readOnly { addLocks(&operations) }
        return operations
    }

    private static func addReading(_ operations: inout fuse_lowlevel_ops) {
        operations.`init` = { _, connection in
            guard let connection else { return }
            // Reads that wait for a store must not hold back other readers' readahead: the kernel's default is 12.
            connection.pointee.max_background = 128
            connection.pointee.congestion_threshold = 96
            // open(2) with O_TRUNC is one request: nobody sees the file cut off and not yet opened.
            connection.pointee.want |= connection.pointee.capable & UInt32(FUSE_CAP_ATOMIC_O_TRUNC)
            // Several mounts may write one file, so that no kernel may keep back what it was given to write.
            connection.pointee.want &= ~UInt32(FUSE_CAP_WRITEBACK_CACHE)
        }
        operations.lookup = { request, parent, name in
            Bridge.with(request) { bridge, request in if let name { bridge.lookup(request, parent, name) } }
        }
        operations.forget = { request, _, _ in if let request { FuseRequest(request).forgetReply() } }
        operations.forget_multi = { request, _, _ in if let request { FuseRequest(request).forgetReply() } }
        operations.getattr = { request, node, info in Bridge.with(request) { $0.attributes($1, node, info) } }
        operations.readlink = { request, node in Bridge.with(request) { $0.readLink($1, node) } }
        operations.statfs = { request, node in Bridge.with(request) { $0.space($1, node) } }
        operations.open = { request, node, info in
            Bridge.with(request) { bridge, request in if let info { bridge.open(request, node, info.pointee) } }
        }
        operations.read = { request, _, size, offset, info in
            Bridge.with(request) { bridge, request in if let info { bridge.read(request, size, offset, info) } }
        }
        operations.release = { request, _, info in
            Bridge.with(request) { bridge, request in if let info { bridge.release(request, info) } }
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
        operations.listxattr = { request, node, size in
            Bridge.with(request) { $0.extendedAttributeNames($1, node, size) }
        }
    }
}
