import CFuse
import Coordination
import FileSystem
import Glibc
import Platform
import SystemPackage

extension Bridge {
    func openDirectory(_ raw: fuse_req_t, _ node: fuse_ino_t, _ info: fuse_file_info) {
        let number = CurrentRequest.number
        if CurrentRequest.isRepeated { fileSystem.dropInherited(number) }
        guard let handle = fileSystem.addHandle(fileSystem.openDirectory(inode(of: node)), request: number) else {
            return FuseRequest(raw).fail(.tooManyOpenFilesInSystem)
        }
        var info = info
        info.fh = handle
        if !FuseRequest(raw).reply(open: info) { _ = fileSystem.takeDirectory(handle) }
    }

    func releaseDirectory(_ raw: fuse_req_t, _ info: fuse_file_info) {
        fileSystem.takeDirectory(info.fh)?.close()
        FuseRequest(raw).succeed()
    }

    /// Offsets: 0 is ".", 1 is "..", and n + 2 is entry n of the handle; each entry carries that of its successor.
    func readDirectory(_ raw: fuse_req_t, _ size: Int, _ offset: off_t, _ info: fuse_file_info, plus: Bool) {
        guard offset >= 0, let handle = fileSystem.directories.find(info.fh)?.takeUnretainedValue() else {
            return FuseRequest(raw).fail(.invalidArgument)
        }
        let offset = UInt64(offset)
        let size = min(size, ReadBuffer.size)
        guard let reply = ParkedRequest.park(FuseRequest(raw)) else { return }
        handle.read(from: offset < 2 ? nil : offset - 2) { [self] result in
            guard let request = reply.claim() else { return }
            switch result {
            case .failure(let error): request.fail(error)
            case .success(let slice):
                let buffer = UnsafeMutableRawBufferPointer(rebasing: ReadBuffer.current()[..<size])
                var page = DirectoryPage(buffer: buffer, plus: plus)
                let last = request.withRaw { fill(&page, $0, offset, slice, handle.inode) }
                if let last { handle.noteShown(last.number, last.name) }
                request.reply(UnsafeRawBufferPointer(rebasing: buffer[..<page.filled]))
            }
        }
    }

    /// Node 0: what is no news counts no lookup and tells no attributes.
    private func named(_ attributes: WireAttributes) -> fuse_entry_param {
        var entry = fuse_entry_param()
        entry.attr.st_ino = ino_t(attributes.inode)
        entry.attr.st_mode = attributes.mode
        return entry
    }

    /// Returns the last entry that found room.
    private func fill(
        _ page: inout DirectoryPage, _ raw: fuse_req_t, _ offset: UInt64, _ slice: DirectoryHandle.Slice,
        _ inode: UInt64
    ) -> (number: UInt64, name: ByteString)? {
        // Node 0: these two count no lookup.
        var own = fuse_entry_param()
        own.attr.st_ino = ino_t(inode)
        own.attr.st_mode = S_IFDIR
        if offset == 0, !page.add(raw, ".", own, next: 1) { return nil }
        own.attr.st_ino = ino_t(slice.parent)
        if offset <= 1, !page.add(raw, "..", own, next: slice.first + 2) { return nil }
        var number = slice.first
        var last: (number: UInt64, name: ByteString)?
        for listed in slice.entries {
            let fits = withUnsafeTemporaryAllocation(of: CChar.self, capacity: listed.name.count + 1) { name in
                for (index, byte) in listed.name.enumerated() { name[index] = CChar(bitPattern: byte) }
                name[listed.name.count] = 0
                let entry =
                    slice.areNames
                    ? named(listed.attributes) : entry(fileSystem.current(listed.attributes))
                return page.add(raw, name.baseAddress!, entry, next: number + 3)
            }
            guard fits else { break }
            last = (number, ByteString(listed.name))
            number += 1
        }
        return last
    }
}

/// The reply to one READDIR or READDIRPLUS while it is filled.
private struct DirectoryPage {
    let buffer: UnsafeMutableRawBufferPointer
    let plus: Bool
    var filled = 0

    /// Adds an entry; false when it does not fit.
    mutating func add(_ raw: fuse_req_t, _ name: UnsafePointer<CChar>, _ entry: fuse_entry_param, next: UInt64) -> Bool
    {
        var entry = entry
        let rest = buffer.count - filled
        let place = (buffer.baseAddress! + filled).assumingMemoryBound(to: CChar.self)
        let size =
            plus
            ? fuse_add_direntry_plus(raw, place, rest, name, &entry, off_t(next))
            : fuse_add_direntry(raw, place, rest, name, &entry.attr, off_t(next))
        guard size <= rest else { return false }
        filled += size
        return true
    }
}
