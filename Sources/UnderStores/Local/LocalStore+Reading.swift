import Glibc
import Platform
import SystemPackage

extension LocalStore {
    // Large enough that the system calls do not show, small enough that a cancelled read ends soon.
    private static let pieceSize: UInt64 = 1 << 20

    package func read(
        _ path: ByteString, range: Range<UInt64>, expecting version: ObjectVersion?, into sink: any ReadSink
    ) async throws(StoreError) {
        try await run { [self] cancellation throws(StoreError) in
            let (file, status) = try openFile(path, expecting: version)
            guard range.upperBound <= status.size else {
                throw StoreError(.invalid, "\(shown(path)) has \(status.size) bytes, not \(range.upperBound)")
            }
            let size = Int(min(Self.pieceSize, UInt64(range.count)))
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
            defer { buffer.deallocate() }
            var offset = range.lowerBound
            while offset < range.upperBound {
                if cancellation.isSet { throw .cancelled }
                let wanted = Int(min(UInt64(size), range.upperBound - offset))
                let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
                let count: Int
                var after = status
                do throws(Errno) {
                    count = try file.read(into: piece, at: offset)
                    // After the bytes were taken and before they are handed on: a write in between shows here.
                    if version != nil { after = try file.status() }
                } catch {
                    throw failure("read", path, error)
                }
                try requireVersion(version, after, path)
                guard count == wanted else {
                    throw StoreError(
                        .protocolViolation, "\(shown(path)) ended at byte \(offset + UInt64(count)) of a read")
                }
                do { try sink.receive(UnsafeRawBufferPointer(piece), at: offset) } catch {
                    throw StoreError(.sink, "the reader of \(shown(path)) failed: \(error)")
                }
                offset += UInt64(wanted)
            }
        }
    }

    /// Opens a regular file for reading and checks its version.
    func openFile(
        _ path: ByteString, expecting version: ObjectVersion?
    ) throws(StoreError) -> (file: Descriptor, status: FileStatus) {
        // Looked at first: opening a device or pipe can have effects of its own.
        try requireRegular(try status(path, Descriptor.pathOnly | O_NOFOLLOW).status, path)
        // O_NONBLOCK: should a pipe have taken the file's place meanwhile, the open does not wait for a writer.
        let opened = try status(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        try requireRegular(opened.status, path)
        try requireVersion(version, opened.status, path)
        return opened
    }

    private func status(
        _ path: ByteString, _ flags: CInt
    ) throws(StoreError) -> (file: Descriptor, status: FileStatus) {
        do throws(Errno) {
            let file = try open(path, flags)
            return (file, try file.status())
        } catch {
            throw failure("open", path, error)
        }
    }

    private func requireVersion(
        _ version: ObjectVersion?, _ status: FileStatus, _ path: ByteString
    ) throws(StoreError) {
        guard version == nil || ObjectVersion(status) == version else {
            throw StoreError(.versionChanged, "\(shown(path)) was changed since it was looked up")
        }
    }

    private func requireRegular(_ status: FileStatus, _ path: ByteString) throws(StoreError) {
        if status.isRegularFile { return }
        let kind = status.isDirectory ? "a directory" : status.isSymbolicLink ? "a symbolic link" : "a special file"
        throw StoreError(.invalid, "\(shown(path)) is \(kind), which cannot be read")
    }
}
