import Platform
import SystemPackage

/// Tells the whole content of a file from another: made of the fingerprints of its parts.
struct ContentPrint: Hashable, Sendable {
    let size: UInt64
    let summary: Fingerprint

    init(size: UInt64, summary: Fingerprint) {
        self.size = size
        self.summary = summary
    }

    init(parts: [Fingerprint]) {
        var summary = Fingerprint()
        for part in parts {
            withUnsafeBytes(of: (part.crc64.littleEndian, part.length.littleEndian, part.crc32c.littleEndian)) {
                summary.update(UnsafeRawBufferPointer(rebasing: $0[..<20]))
            }
        }
        size = parts.reduce(0) { $0 + $1.length }
        self.summary = summary
    }
}

/// What was read of one part of a staged file.
struct PartContent: Sendable {
    let print: Fingerprint
    /// CRC32C of each block of the cache's size.
    let blocks: [UInt32]

    /// Reads `range` of `file`, which starts at a block. The result is shorter than the range when the file is. Blocks
    /// on the disk. Throws EIO, ….
    static func read(_ range: Range<UInt64>, of file: Descriptor, blockSize: Int) throws(Errno) -> PartContent {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        var print = Fingerprint()
        var blocks: [UInt32] = []
        blocks.reserveCapacity(range.count / blockSize + 1)
        var offset = range.lowerBound
        while offset < range.upperBound {
            let length = Int(min(UInt64(buffer.count), range.upperBound - offset))
            let count = try file.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<length]), at: offset)
            var start = 0
            while start < count {
                let end = min(start + blockSize, count)
                let block = UnsafeRawBufferPointer(rebasing: buffer[start..<end])
                print.update(block)
                blocks.append(CRC32C.of(block))
                start = end
            }
            if count < length { break }
            offset += UInt64(length)
        }
        return PartContent(print: print, blocks: blocks)
    }
}

/// Computes the print of bytes that come in order, with the parts of a layout.
struct ContentReader {
    let layout: UploadPartLayout
    private var parts: [Fingerprint] = []
    private var current = Fingerprint()

    init(_ layout: UploadPartLayout) { self.layout = layout }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let room = layout.size(of: parts.count + 1) - current.length
            let piece = rest.prefix(Int(min(room, UInt64(rest.count))))
            current.update(UnsafeRawBufferPointer(rebasing: piece))
            rest = rest.dropFirst(piece.count)
            if current.length == layout.size(of: parts.count + 1) {
                parts.append(current)
                current = Fingerprint()
            }
        }
    }

    /// The fingerprints of all parts; of one empty part when no bytes came.
    var fingerprints: [Fingerprint] { current.length > 0 || parts.isEmpty ? parts + [current] : parts }
}
