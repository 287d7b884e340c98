import CLinux
import SystemPackage

/// Reads the names of an open directory with getdents64(2), a buffer at a time, so that memory stays bounded however
/// large the directory is. One thread at a time.
package final class DirectoryReader {
    /// The directory read from; status calls relative to it reach its entries.
    package let directory: Descriptor

    // One getdents call fills about 1000 names of common length.
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
    private var filled = 0
    private var offset = 0

    /// - Parameter directory: opened for reading by this reader's owner alone: its position is used.
    package init(_ directory: Descriptor) { self.directory = directory }

    deinit { buffer.deallocate() }

    /// The next name in the file system's order, without "." and ".."; nil at the end. Throws EIO, ENOENT (the directory
    /// was removed), ….
    package func next() throws(Errno) -> ByteString? {
        while true {
            var record = larder_dirent()
            while larder_dirent_at(buffer.baseAddress, filled, offset, &record) != 0 {
                offset += Int(record.record_length)
                let name = ByteString(UnsafeRawBufferPointer(start: record.name, count: Int(record.name_length)))
                if name != "." && name != ".." { return name }
            }
            filled = try Errno.check(larder_getdents(directory.raw, buffer.baseAddress, buffer.count))
            offset = 0
            if filled == 0 { return nil }
        }
    }
}
