import Coordination
import Glibc
import Platform
import SystemPackage

extension MountedFileSystem {
    package enum WriteOutcome {
        /// All bytes are written.
        case written
        case failed(Errno)
        /// There may be room later: call `writeLater` with a copy.
        case mustWait
    }

    /// Writes, without a lock, an allocation or a message. Any thread.
    ///
    /// - Parameters:
    ///   - appends: the bytes go to the end of the file, wherever other mounts have moved that meanwhile.
    ///   - isRepeated: a predecessor of this process was asked for the same, and may have done it.
    @inline(__always)
    package func write(
        _ file: OpenFile, _ bytes: UnsafeRawBufferPointer, at offset: UInt64, appends: Bool, isRepeated: Bool = false
    ) -> WriteOutcome {
        guard let writing = file.inode.writing else { return .failed(.badFileDescriptor) }
        if let error = writing.error { return .failed(error) }
        guard let descriptor = writing.file else {
            return file.inode.withPath { $0.isRestored } ? .mustWait : .failed(.badFileDescriptor)
        }
        let (end, isBeyond) = offset.addingReportingOverflow(UInt64(bytes.count))
        guard !isBeyond, end <= UInt64(Int64.max) else { return .failed(.fileTooLarge) }
        if !writing.room.admits(end), !admit(file, writing, end) { return .mustWait }
        // Before the bytes: whoever commits between the two commits too much, and not too little.
        writing.noteWrite()
        do throws(Errno) {
            if appends {
                if isRepeated {
                    try appendOnce(bytes, to: descriptor, from: offset)
                } else {
                    try descriptor.append(bytes)
                }
                noteAppended(file.inode.number, descriptor, expectedEnd: end)
            } else {
                try descriptor.write(bytes, at: offset)
            }
            return .written
        } catch { return .failed(error) }
    }

    /// The slow way when the file may be about to outgrow its room. False: not now.
    private func admit(_ file: OpenFile, _ writing: WriteState, _ end: UInt64) -> Bool {
        switch writing.room.admit(end, nil) {
        case .granted: return true
        case .grantedAsking(let bytes):
            askForRoom(file.inode, bytes)
            return true
        case .wait, .waitAsking: return false
        }
    }

    /// Whether a write by somebody without privileges must end those of the file.
    @inline(__always)
    package func hasPrivileges(_ file: OpenFile) -> Bool { file.inode.writing?.modeAfterWrite != nil }

    /// Ends them; a failure to do so is not the writer's.
    package func dropPrivileges(_ file: OpenFile, answer: @escaping Answer<Void>) {
        guard let mode = file.inode.writing?.modeAfterWrite else { return answer(.success(())) }
        let change = WireSetAttributes(file.inode.number, mode: mode)
        setAttributes(change, file: nil) { [self] _ in
            // The kernel has not heard of it.
            dropPages(of: change.inode)
            answer(.success(()))
        }
    }

    /// Writes as soon as there is room. The answer comes on any thread.
    package func writeLater(
        _ file: OpenFile, _ bytes: [UInt8], at offset: UInt64, appends: Bool, isRepeated: Bool = false,
        answer: @escaping Answer<Int>
    ) {
        whenRoom(for: file, end: offset &+ UInt64(bytes.count)) { [self] error in
            if let error { return answer(.failure(error)) }
            switch bytes.withUnsafeBytes({ write(file, $0, at: offset, appends: appends, isRepeated: isRepeated) }) {
            case .written: answer(.success(bytes.count))
            case .failed(let error): answer(.failure(error))
            case .mustWait:
                writeLater(file, bytes, at: offset, appends: appends, isRepeated: isRepeated, answer: answer)
            }
        }
    }

    /// Calls `body` on a thread that may block a little, when the file may have bytes up to `end`, or with why it may not.
    func whenRoom(for file: OpenFile, end: UInt64, _ body: @escaping @Sendable (Errno?) -> Void) {
        guard let writing = file.inode.writing else { return body(.badFileDescriptor) }
        guard writing.file != nil || !file.inode.withPath({ $0.isRestored }) else {
            return whenOpen(file.inode) { [self] error in
                if let error { return body(error) }
                whenRoom(for: file, end: end, body)
            }
        }
        switch writing.room.admit(end, body) {
        case .granted: body(nil)
        case .grantedAsking(let bytes):
            askForRoom(file.inode, bytes)
            body(nil)
        case .wait: break
        case .waitAsking(let bytes): askForRoom(file.inode, bytes)
        }
    }

    private func askForRoom(_ inode: OpenInode, _ bytes: UInt64) {
        guard let room = inode.writing?.room else { return }
        request(
            for: inode,
            { lease in
                var request = WireReserve()
                request.lease = lease
                request.bytes = bytes
                return .reserve(request)
            }
        ) { [self] result in
            switch result {
            case .success:
                let (waiters, next) = room.granted(bytes)
                // They write, for which a receive thread has no time.
                if !waiters.isEmpty { Self.fileWorkers.submit { for waiter in waiters { waiter(nil) } } }
                if let next { link.workers.submit { [self] in askForRoom(inode, next) } }
            case .failure(let error):
                let waiters = room.refused()
                if !waiters.isEmpty { Self.fileWorkers.submit { for waiter in waiters { waiter(error) } } }
            }
        }
    }

    /// The kernel put an append where it knew the end. When the end was elsewhere, its pages are wrong.
    private func noteAppended(_ inode: UInt64, _ descriptor: Descriptor, expectedEnd: UInt64) {
        do throws(Errno) { if try descriptor.status().size == expectedEnd { return } } catch {}
        dropPages(of: inode)
    }
}
