import Glibc
import Platform
import SystemPackage

extension LocalStore {
    package func change(
        _ path: ByteString, _ change: AttributeChange, as caller: Caller
    ) async throws(FileFailure) -> ObjectAttributes {
        try await perform("change", path, as: caller) { [self] () throws(Errno) in
            try apply(change, to: try file(at: path))
        }
    }

    package func change(
        _ file: Descriptor, _ change: AttributeChange, as caller: Caller
    ) async throws(FileFailure) -> ObjectAttributes {
        try await perform("change an open file in", "", as: caller) { [self] () throws(Errno) in
            try apply(change, to: file)
        }
    }

    package func hold(_ path: ByteString) async throws(FileFailure) -> Descriptor {
        try await performUnasked("look at", path) { [self] () throws(Errno) in try file(at: path) }
    }

    package func attributes(of file: Descriptor) async throws(FileFailure) -> ObjectAttributes {
        try await performUnasked("look at an open file in", "") { () throws(Errno) in
            ObjectAttributes(try file.status())
        }
    }

    // The owner before the mode: chown(2) clears set-ID bits, which the mode may set again. The size before the times:
    // truncation sets them.
    private func apply(_ change: AttributeChange, to file: Descriptor) throws(Errno) -> ObjectAttributes {
        if change.uid != nil || change.gid != nil { try file.setOwner(uid: change.uid, gid: change.gid) }
        if let permissions = change.permissions { try file.setPermissions(permissions & 0o7777) }
        if let size = change.size { try resize(file, to: size) }
        if change.accessed != nil || change.modified != nil {
            try file.setTimes(accessed: change.accessed?.timespec, modified: change.modified?.timespec)
        }
        return ObjectAttributes(try file.status())
    }

    private func resize(_ file: Descriptor, to size: UInt64) throws(Errno) {
        let status = try file.status()
        if status.isDirectory { throw .isDirectory }
        guard status.isRegularFile, size <= UInt64(off_t.max) else { throw .invalidArgument }
        // A descriptor that is open for writing may truncate what its owner could not open for writing any more.
        let access = fcntl(file.raw, F_GETFL)
        let isWritable = access >= 0 && access & Descriptor.pathOnly == 0 && access & O_ACCMODE != O_RDONLY
        try (isWritable ? file : file.reopen(O_WRONLY)).resize(to: size)
    }
}

extension AttributeChange.TimeChange {
    fileprivate var timespec: Glibc.timespec {
        switch self {
        case .now: Glibc.timespec(tv_sec: 0, tv_nsec: (1 << 30) - 1)  // UTIME_NOW, a macro
        case .at(let time): Glibc.timespec(tv_sec: Int(time.seconds), tv_nsec: Int(time.nanoseconds))
        }
    }
}
