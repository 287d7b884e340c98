import Coordination
import Glibc
import Platform
import SystemPackage

extension MountedFileSystem {
    /// fallocate(2), with all modes that the file beneath takes.
    package func allocate(
        _ file: OpenFile, mode: Int32, offset: UInt64, length: UInt64, answer: @escaping Answer<Void>
    ) {
        guard let writing = file.inode.writing else { return answer(.failure(.badFileDescriptor)) }
        if let error = writing.error { return answer(.failure(error)) }
        if file.inode.withPath({ $0.isRestored }) {
            return whenOpen(file.inode) { [self] error in
                if let error { return answer(.failure(error)) }
                allocate(file, mode: mode, offset: offset, length: length, answer: answer)
            }
        }
        guard let descriptor = writing.file else { return answer(.failure(.notSupported)) }
        let (end, isBeyond) = offset.addingReportingOverflow(length)
        guard !isBeyond, end <= UInt64(Int64.max) else { return answer(.failure(.fileTooLarge)) }
        let punches = mode & Self.punchHole != 0
        whenRoom(for: file, end: punches ? 0 : end) { error in
            if let error { return answer(.failure(error)) }
            writing.noteWrite()
            do throws(Errno) {
                try descriptor.allocate(mode: mode, at: offset, length: length)
                answer(.success(()))
            } catch { answer(.failure(error)) }
        }
    }

    /// FALLOC_FL_PUNCH_HOLE
    private static let punchHole: Int32 = 2

    /// lseek(2) with SEEK_DATA, or SEEK_HOLE with `toHole`. A file whose blocks are elsewhere is one piece of data.
    /// Answered at once, but for a file that a predecessor of this process had open.
    package func seek(_ file: OpenFile, toHole: Bool, from offset: UInt64, answer: @escaping Answer<UInt64>) {
        whenOpen(file.inode) { [self] error in
            if let error { return answer(.failure(error)) }
            answer(seek(file, toHole: toHole, from: offset))
        }
    }

    private func seek(_ file: OpenFile, toHole: Bool, from offset: UInt64) -> Result<UInt64, Errno> {
        let path = file.inode.path
        do throws(Errno) {
            if path.isLive || (path.kind == .passthrough && file.inode.writing != nil), let descriptor = path.file {
                return .success(try descriptor.seek(toHole: toHole, from: offset))
            }
            guard offset < path.size else { throw .noSuchAddressOrDevice }
            return .success(toHole ? path.size : offset)
        } catch { return .failure(error) }
    }

    /// The kernel waits for all of one request: what is more is asked for by the next.
    private static let copyAtOnce: UInt64 = 64 << 20

    /// copy_file_range(2). EOPNOTSUPP or EXDEV: the kernel copies by reading and writing.
    package func copyRange(
        from source: OpenFile, at offset: UInt64, to destination: OpenFile, at place: UInt64, count: UInt64,
        answer: @escaping Answer<Int>
    ) {
        guard let writing = destination.inode.writing else { return answer(.failure(.badFileDescriptor)) }
        if let error = writing.error { return answer(.failure(error)) }
        for inode in [source.inode, destination.inode] where inode.withPath({ $0.isRestored }) {
            return whenOpen(inode) { [self] error in
                if let error { return answer(.failure(error)) }
                copyRange(from: source, at: offset, to: destination, at: place, count: count, answer: answer)
            }
        }
        let from = source.inode.path
        guard let input = from.completeFile, let output = writing.file else {
            return copyElsewhere(source.inode, offset, destination.inode, place, count, answer: answer)
        }
        let count = min(count, Self.copyAtOnce)
        guard place <= UInt64(Int64.max) - count else { return answer(.failure(.fileTooLarge)) }
        whenRoom(for: destination, end: place + count) { error in
            if let error { return answer(.failure(error)) }
            Self.fileWorkers.submit {
                writing.noteWrite()
                do throws(Errno) {
                    answer(.success(try input.copy(from: offset, to: output, at: place, length: Int(count))))
                } catch { answer(.failure(error)) }
            }
        }
    }

    /// By the coordinator, or by the store itself.
    private func copyElsewhere(
        _ source: OpenInode, _ offset: UInt64, _ destination: OpenInode, _ place: UInt64, _ count: UInt64,
        answer: @escaping Answer<Int>
    ) {
        let path = source.path
        // Both leases must be of one connection; the kernel copies when they are not.
        guard path.generation == destination.path.generation else { return answer(.failure(.notSupported)) }
        request(
            for: destination,
            { lease in
                var request = WireCopyRange()
                request.source = path.lease
                request.sourceOffset = offset
                request.destination = lease
                request.destinationOffset = place
                request.length = count
                return .copyRange(request)
            }
        ) { result in
            switch result {
            case .success(let reply):
                guard case .copied(let copied) = reply.body else { return answer(.failure(.protocolError)) }
                destination.writing?.noteWrite()
                answer(.success(Int(clamping: copied.length)))
            case .failure(let error): answer(.failure(error == .noFunction ? .notSupported : error))
            }
        }
    }
}

extension DataPath {
    /// A descriptor that has all bytes of the file.
    fileprivate var completeFile: Descriptor? { kind == .whole || isLive || kind == .passthrough ? file : nil }
}
