import Platform
import SystemPackage

extension BlockMap {
    /// Writes the header and all fields to a new file. Throws ENOSPC, EIO, ….
    package func save(to file: Descriptor) throws(Errno) {
        try file.resize(to: UInt64(layout.fileSize))
        try save(0..<geometry.blockCount, to: file)
        try file.write(UnsafeRawBufferPointer(start: region.base, count: BlockMapLayout.headerSize), at: 0)
    }

    /// Writes what concerns `blocks` to a file that already holds this map. Throws ENOSPC, EIO, ….
    ///
    /// Checksums go before bits: whoever reads the file after a kill finds no bit without its checksum.
    package func save(_ blocks: Range<Int>, to file: Descriptor) throws(Errno) {
        guard !blocks.isEmpty else { return }
        try write(layout.checksumsOffset + blocks.lowerBound * 4, blocks.count * 4, to: file)
        let words = blocks.lowerBound / 64..<(blocks.upperBound - 1) / 64 + 1
        try write(layout.presenceOffset + words.lowerBound * 8, words.count * 8, to: file)
    }

    private func write(_ offset: Int, _ count: Int, to file: Descriptor) throws(Errno) {
        try file.write(UnsafeRawBufferPointer(start: region.base + offset, count: count), at: UInt64(offset))
    }

    /// Reads a saved map, which may be damaged or hostile, into a new one.
    /// Throws `.mismatch` for a sound map of another object or geometry.
    package convenience init(
        loading file: Descriptor, geometry: BlockGeometry, digest: ObjectDigest
    ) throws(BlockMapError) {
        do {
            let size = try file.status().size
            var header = [UInt8](repeating: 0, count: BlockMapLayout.headerSize)
            let count = try header.withUnsafeMutableBytes { (bytes) throws(Errno) in try file.read(into: bytes, at: 0) }
            let (layout, found) = try header[..<count].withUnsafeBytes { (bytes) throws(BlockMapError) in
                try BlockMapLayout.decode(bytes, fileSize: size)
            }
            guard layout.geometry == geometry else {
                throw BlockMapError.mismatch(
                    "\(layout.geometry.objectSize) bytes in blocks of \(layout.geometry.blockSize)")
            }
            guard found == digest else { throw BlockMapError.mismatch("object \(found)") }
            try self.init(geometry, digest: digest)
            try loadBody(from: file)
        } catch let error as BlockMapError {
            throw error
        } catch let error as Errno {
            throw .system(error)
        } catch {
            throw .malformed("\(error)")
        }
    }

    private func loadBody(from file: Descriptor) throws {
        // Pieces of zeros are skipped, so that the map of a large sparse object stays sparse in memory.
        var piece = [UInt64](repeating: 0, count: 8192)
        var offset = BlockMapLayout.headerSize
        while offset < layout.fileSize {
            let wanted = min(piece.count * 8, layout.fileSize - offset)
            try piece.withUnsafeMutableBytes { bytes in
                let buffer = UnsafeMutableRawBufferPointer(rebasing: bytes[..<wanted])
                guard try file.read(into: buffer, at: UInt64(offset)) == wanted else {
                    throw BlockMapError.malformed("truncated while it was read")
                }
                guard buffer.contains(where: { $0 != 0 }) else { return }
                UnsafeMutableRawBufferPointer(start: region.base + offset, count: wanted)
                    .copyMemory(from: UnsafeRawBufferPointer(buffer))
            }
            offset += wanted
        }
        let tail = geometry.blockCount & 63
        if tail != 0, bits.words[layout.wordCount - 1].load(ordering: .relaxed) >> UInt64(tail) != 0 {
            throw BlockMapError.malformed("presence of blocks past the end")
        }
    }
}
