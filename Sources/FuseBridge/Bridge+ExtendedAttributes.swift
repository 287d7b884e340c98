import CFuse
import FileSystem
import Platform
import SystemPackage

extension Bridge {
    func extendedAttribute(_ raw: fuse_req_t, _ node: fuse_ino_t, _ name: UnsafePointer<CChar>, _ size: Int) {
        let name = ByteString(cString: name)
        answer(raw) {
            fileSystem.extendedAttribute(name, of: inode(of: node), answer: $0)
        } with: { request, value in
            request.reply(attribute: value.bytes, size)
        }
    }

    func extendedAttributeNames(_ raw: fuse_req_t, _ node: fuse_ino_t, _ size: Int) {
        answer(raw) {
            fileSystem.extendedAttributeNames(of: inode(of: node), answer: $0)
        } with: { request, names in
            request.reply(attribute: names.flatMap { $0.bytes + [0] }, size)
        }
    }

    func setExtendedAttribute(
        _ raw: fuse_req_t, _ node: fuse_ino_t, _ name: UnsafePointer<CChar>, _ value: UnsafeRawBufferPointer,
        _ flags: Int32
    ) {
        let name = ByteString(cString: name)
        let value = ByteString(value)
        let caller = raw.caller
        answerChange(raw) {
            fileSystem.setExtendedAttribute(
                name, to: value, of: inode(of: node), flags: flags, caller: caller, operation: $0, answer: $1)
        } with: { request, _ in
            request.succeed()
        }
    }

    func removeExtendedAttribute(_ raw: fuse_req_t, _ node: fuse_ino_t, _ name: UnsafePointer<CChar>) {
        let name = ByteString(cString: name)
        let caller = raw.caller
        answerChange(raw) {
            fileSystem.removeExtendedAttribute(name, of: inode(of: node), caller: caller, operation: $0, answer: $1)
        } with: { request, _ in
            request.succeed()
        }
    }
}

extension FuseRequest {
    /// The value of an extended attribute, or its size when the caller's buffer is empty (getxattr(2)).
    consuming func reply(attribute bytes: [UInt8], _ size: Int) {
        if size == 0 { return reply(attributeSize: bytes.count) }
        guard bytes.count <= size else { return fail(.outOfRange) }
        let raw = take()
        _ = bytes.withUnsafeBytes { FuseRequest(raw).reply($0) }
    }
}
