import Glibc
import Platform
import SystemPackage

extension MountedFileSystem {
    /// Appends what a predecessor of this process may have appended already, wholly or in part, before it could say so.
    ///
    /// The kernel holds the inode's lock until an append is answered, so nothing else of this mount has come to the file since.
    /// Other mounts may have appended before and after.
    /// - Parameter offset: the end of the file as the kernel knew it; the bytes cannot be before.
    func appendOnce(_ bytes: UnsafeRawBufferPointer, to file: Descriptor, from offset: UInt64) throws(Errno) {
        let size = try file.status().size
        guard size > offset else { return try file.append(bytes) }
        var present = [UInt8](repeating: 0, count: Int(min(size - offset, Self.searched + UInt64(bytes.count))))
        let count = try Self.fill(&present, from: file, at: offset)
        // A predecessor that was killed in the middle, and nobody after it.
        if count < bytes.count, present.prefix(count).elementsEqual(bytes.prefix(count)) {
            return try file.write(bytes, at: offset)
        }
        if Self.contains(present[..<count], bytes) { return }
        try file.append(bytes)
    }

    private static func contains(_ text: ArraySlice<UInt8>, _ bytes: UnsafeRawBufferPointer) -> Bool {
        text.withUnsafeBytes { text in
            guard bytes.count <= text.count, let start = text.baseAddress, let wanted = bytes.baseAddress else {
                return bytes.isEmpty
            }
            return (0...text.count - bytes.count).contains { offset in
                text[offset] == bytes[0] && memcmp(start + offset, wanted, bytes.count) == 0
            }
        }
    }

    /// How far other mounts may have appended meanwhile.
    private static let searched: UInt64 = 4 << 20

    private static func fill(_ bytes: inout [UInt8], from file: Descriptor, at offset: UInt64) throws(Errno) -> Int {
        let read: Result<Int, Errno> = bytes.withUnsafeMutableBytes { buffer in
            do throws(Errno) { return .success(try file.read(into: buffer, at: offset)) } catch {
                return .failure(error)
            }
        }
        return try read.get()
    }
}
