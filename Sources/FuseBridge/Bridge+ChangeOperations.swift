import CFuse
import Glibc

extension Bridge {
    /// What changes names and attributes.
    static func addNames(_ operations: inout fuse_lowlevel_ops) {
        operations.setattr = { request, node, new, wanted, info in
            Bridge.with(request) { bridge, request in
                if let new { bridge.setAttributes(request, node, new.pointee, wanted, info) }
            }
        }
        operations.mknod = { request, parent, name, mode, device in
            Bridge.with(request) { bridge, request in
                if let name { bridge.makeNode(request, parent, name, mode, device) }
            }
        }
        operations.mkdir = { request, parent, name, mode in
            Bridge.with(request) { bridge, request in
                if let name { bridge.makeDirectory(request, parent, name, mode) }
            }
        }
        operations.symlink = { request, target, parent, name in
            Bridge.with(request) { bridge, request in
                if let target, let name { bridge.makeSymbolicLink(request, target, parent, name) }
            }
        }
        operations.link = { request, node, parent, name in
            Bridge.with(request) { bridge, request in
                if let name { bridge.makeHardLink(request, node, parent, name) }
            }
        }
        operations.unlink = { request, parent, name in
            Bridge.with(request) { bridge, request in
                if let name { bridge.remove(request, parent, name, directory: false) }
            }
        }
        operations.rmdir = { request, parent, name in
            Bridge.with(request) { bridge, request in
                if let name { bridge.remove(request, parent, name, directory: true) }
            }
        }
        operations.rename = { request, parent, name, newParent, newName, flags in
            Bridge.with(request) { bridge, request in
                if let name, let newName { bridge.rename(request, parent, name, newParent, newName, flags) }
            }
        }
        operations.setxattr = { request, node, name, value, size, flags in
            Bridge.with(request) { bridge, request in
                guard let name else { return }
                bridge.setExtendedAttribute(
                    request, node, name, UnsafeRawBufferPointer(start: value, count: value == nil ? 0 : size), flags)
            }
        }
        operations.removexattr = { request, node, name in
            Bridge.with(request) { bridge, request in
                if let name { bridge.removeExtendedAttribute(request, node, name) }
            }
        }
        operations.fsyncdir = { request, node, _, _ in Bridge.with(request) { $0.synchronizeDirectory($1, node) } }
    }

    /// What changes bytes.
    static func addWriting(_ operations: inout fuse_lowlevel_ops) {
        operations.create = { request, parent, name, mode, info in
            Bridge.with(request) { bridge, request in
                if let name, let info { bridge.create(request, parent, name, mode, info.pointee) }
            }
        }
        operations.write = { request, _, bytes, size, offset, info in
            Bridge.with(request) { bridge, request in
                if let info { bridge.write(request, UnsafeRawBufferPointer(start: bytes, count: size), offset, info) }
            }
        }
        operations.flush = { request, _, info in
            Bridge.with(request) { bridge, request in if let info { bridge.flush(request, info) } }
        }
        operations.fsync = { request, _, dataOnly, info in
            Bridge.with(request) { bridge, request in
                if let info { bridge.synchronize(request, info, dataOnly: dataOnly != 0) }
            }
        }
        operations.fallocate = { request, _, mode, offset, length, info in
            Bridge.with(request) { bridge, request in
                if let info { bridge.allocate(request, mode, offset, length, info) }
            }
        }
        operations.lseek = { request, _, offset, whence, info in
            Bridge.with(request) { bridge, request in if let info { bridge.seek(request, offset, whence, info) } }
        }
        operations.copy_file_range = { request, _, offset, input, _, place, output, count, _ in
            Bridge.with(request) { bridge, request in
                if let input, let output {
                    bridge.copyRange(request, from: input, offset, to: output, place, count)
                }
            }
        }
    }

    /// Advisory locks, which then hold across all mounts of the node.
    static func addLocks(_ operations: inout fuse_lowlevel_ops) {
        operations.getlk = { request, node, info, lock in
            Bridge.with(request) { bridge, request in
                if let info, let lock { bridge.conflictingLock(request, node, info, lock.pointee) }
            }
        }
        operations.setlk = { request, node, info, lock, wait in
            Bridge.with(request) { bridge, request in
                if let info, let lock { bridge.setLock(request, node, info, lock.pointee, wait: wait != 0) }
            }
        }
        operations.flock = { request, node, info, operation in
            Bridge.with(request) { bridge, request in
                if let info { bridge.setFileLock(request, node, info, operation) }
            }
        }
    }
}
