import CFuse
import FileSystem
import Glibc
import Platform
import SystemPackage

extension Bridge {
    @inline(__always)
    func write(
        _ raw: fuse_req_t, _ bytes: UnsafeRawBufferPointer, _ offset: off_t, _ info: UnsafePointer<fuse_file_info>
    ) {
        guard offset >= 0, let file = self.file(info) else {
            return FuseRequest(raw).fail(.invalidArgument)
        }
        // What comes from the page cache belongs where the kernel says.
        let appends = info.pointee.flags & O_APPEND != 0 && larder_fuse_is_writeback(info) == 0
        file._withUnsafeGuaranteedRef { file in
            let isRepeated = appends && CurrentRequest.isRepeated
            switch fileSystem.write(file, bytes, at: UInt64(offset), appends: appends, isRepeated: isRepeated) {
            case .written: replyWritten(raw, file, bytes.count)
            case .failed(let error): FuseRequest(raw).fail(error)
            case .mustWait: writeLater(raw, file, [UInt8](bytes), UInt64(offset), appends, isRepeated)
            }
        }
    }

    @inline(__always)
    private func replyWritten(_ raw: fuse_req_t, _ file: OpenFile, _ count: Int) {
        guard fileSystem.hasPrivileges(file), fuse_req_ctx(raw).pointee.uid != 0 else {
            return FuseRequest(raw).reply(written: count)
        }
        dropPrivileges(raw, file, count)
    }

    private func dropPrivileges(_ raw: fuse_req_t, _ file: OpenFile, _ count: Int) {
        answer(raw) {
            fileSystem.dropPrivileges(file, answer: $0)
        } with: { request, _ in
            request.reply(written: count)
        }
    }

    private func writeLater(
        _ raw: fuse_req_t, _ file: OpenFile, _ bytes: [UInt8], _ offset: UInt64, _ appends: Bool, _ isRepeated: Bool
    ) {
        answer(raw) {
            fileSystem.writeLater(
                file, bytes, at: offset, appends: appends, isRepeated: isRepeated, answer: $0)
        } with: { request, count in
            request.reply(written: count)
        }
    }

    func synchronize(_ raw: fuse_req_t, _ info: UnsafePointer<fuse_file_info>, dataOnly: Bool) {
        guard let file = self.file(info) else {
            return FuseRequest(raw).fail(.badFileDescriptor)
        }
        answer(raw) {
            fileSystem.synchronize(file.takeUnretainedValue(), dataOnly: dataOnly, answer: $0)
        } with: { request, _ in
            request.succeed()
        }
    }

    func synchronizeDirectory(_ raw: fuse_req_t, _ node: fuse_ino_t) {
        answer(raw) {
            fileSystem.synchronizeDirectory(inode(of: node), answer: $0)
        } with: { request, _ in
            request.succeed()
        }
    }

    func allocate(
        _ raw: fuse_req_t, _ mode: Int32, _ offset: off_t, _ length: off_t, _ info: UnsafePointer<fuse_file_info>
    ) {
        guard offset >= 0, length > 0, let file = self.file(info) else {
            return FuseRequest(raw).fail(.invalidArgument)
        }
        answer(raw) {
            fileSystem.allocate(
                file.takeUnretainedValue(), mode: mode, offset: UInt64(offset), length: UInt64(length), answer: $0)
        } with: { request, _ in
            request.succeed()
        }
    }

    /// The kernel asks only for SEEK_DATA and SEEK_HOLE.
    func seek(_ raw: fuse_req_t, _ offset: off_t, _ whence: Int32, _ info: UnsafePointer<fuse_file_info>) {
        let data: Int32 = 3
        let hole: Int32 = 4
        guard whence == data || whence == hole, let file = self.file(info) else {
            return FuseRequest(raw).fail(.invalidArgument)
        }
        guard offset >= 0 else { return FuseRequest(raw).fail(.noSuchAddressOrDevice) }
        answer(raw) {
            fileSystem.seek(file.takeUnretainedValue(), toHole: whence == hole, from: UInt64(offset), answer: $0)
        } with: { request, place in
            request.reply(place: place)
        }
    }

    func copyRange(
        _ raw: fuse_req_t, from input: UnsafePointer<fuse_file_info>, _ offset: off_t,
        to output: UnsafePointer<fuse_file_info>, _ place: off_t, _ count: Int
    ) {
        guard offset >= 0, place >= 0, let source = self.file(input),
            let destination = self.file(output)
        else { return FuseRequest(raw).fail(.invalidArgument) }
        answer(raw) {
            fileSystem.copyRange(
                from: source.takeUnretainedValue(), at: UInt64(offset), to: destination.takeUnretainedValue(),
                at: UInt64(place), count: UInt64(count), answer: $0)
        } with: { request, count in
            request.reply(written: count)
        }
    }
}
