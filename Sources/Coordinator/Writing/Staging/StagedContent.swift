import Crypto
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
    var print = Fingerprint()
    /// CRC32C of each block of the cache's size.
    var blocks: [UInt32] = []
    /// Where it was wanted.
    var md5: [UInt8]?

    private mutating func add(_ block: UnsafeRawBufferPointer) {
        let checksum = CRC32C.of(block)
        print.update(block, crc32c: checksum)
        blocks.append(checksum)
    }

    /// Reads `range` of `file`, which starts at a block. The result is shorter than the range when the file is. Blocks
    /// on the disk. Throws EIO, ….
    static func read(
        _ range: Range<UInt64>, of file: Descriptor, blockSize: Int, withMD5: Bool = false
    ) throws(Errno) -> PartContent {
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(1, min(range.count, 1 << 20)), alignment: 4096)
        defer { buffer.deallocate() }
        var content = PartContent()
        var md5 = Insecure.MD5()
        content.blocks.reserveCapacity(range.count / blockSize + 1)
        var offset = range.lowerBound
        while offset < range.upperBound {
            let length = Int(min(UInt64(buffer.count), range.upperBound - offset))
            let count = try file.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<length]), at: offset)
            var start = 0
            while start < count {
                let end = min(start + blockSize, count)
                content.add(UnsafeRawBufferPointer(rebasing: buffer[start..<end]))
                start = end
            }
            if withMD5 { md5.update(bufferPointer: UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
            if count < length { break }
            offset += UInt64(length)
        }
        if withMD5 { content.md5 = Array(md5.finalize()) }
        return content
    }

    /// The same of several ranges (`MD5Lanes.count` at most), block by block side by side, with the MD5 of each.
    static func read(
        together ranges: [Range<UInt64>], of file: Descriptor, blockSize: Int
    ) throws(Errno) -> [PartContent] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ranges.count * blockSize, alignment: 4096)
        defer { buffer.deallocate() }
        var (contents, lanes) = (ranges.map { _ in PartContent() }, MD5Lanes())
        var left = ranges
        while left.contains(where: { !$0.isEmpty }) {
            var pieces: [UnsafeRawBufferPointer] = []
            for (lane, range) in left.enumerated() {
                let place = buffer[lane * blockSize..<lane * blockSize + min(blockSize, range.count)]
                let count =
                    range.isEmpty
                    ? 0 : try file.read(into: UnsafeMutableRawBufferPointer(rebasing: place), at: range.lowerBound)
                let piece = UnsafeRawBufferPointer(
                    rebasing: UnsafeRawBufferPointer(buffer)[place.startIndex...].prefix(count))
                pieces.append(piece)
                guard !range.isEmpty else { continue }
                contents[lane].add(piece)
                // The file has become shorter.
                left[lane] = count < place.count ? 0..<0 : range.lowerBound + UInt64(count)..<range.upperBound
            }
            lanes.update(pieces)
        }
        for (lane, digest) in lanes.finish().prefix(ranges.count).enumerated() { contents[lane].md5 = digest }
        return contents
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
