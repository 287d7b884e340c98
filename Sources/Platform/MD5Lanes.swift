import CLinux

/// MD5 (RFC 1321) of up to eight streams at once, at four times the rate of one after another: the steps of one stream
/// wait for each other.
///
/// Only for stores that know damaged bytes by nothing else; it is no defence against intent.
package struct MD5Lanes: Sendable {
    /// The most streams.
    package static let count = Int(LARDER_MD5_LANES)
    private static let block = Int(LARDER_MD5_BLOCK)

    private var state = larder_md5_lanes()
    private var lengths = [UInt64](repeating: 0, count: count)
    /// The end of each stream, as far as it fills no block.
    private var tails = [[UInt8]](repeating: [], count: count)

    package init() { larder_md5_begin(&state) }

    /// Adds bytes at the end of each stream, the first piece to the first. A piece that is no multiple of 64 bytes long is
    /// the last of its stream.
    package mutating func update(_ pieces: [UnsafeRawBufferPointer]) {
        precondition(pieces.count <= Self.count, "there are not so many lanes")
        var left = pieces
        for (lane, piece) in pieces.enumerated() where !piece.isEmpty {
            precondition(tails[lane].isEmpty, "the stream has ended")
            lengths[lane] += UInt64(piece.count)
            let whole = piece.count / Self.block * Self.block
            tails[lane] = Array(piece[whole...])
            left[lane] = UnsafeRawBufferPointer(rebasing: piece[..<whole])
        }
        // Streams end at different places: all go on together up to the next end.
        while let shortest = left.lazy.map(\.count).filter({ $0 > 0 }).min() {
            add(left.map { $0.isEmpty ? nil : $0.baseAddress }, bytes: shortest)
            left = left.map { $0.isEmpty ? $0 : UnsafeRawBufferPointer(rebasing: $0[shortest...]) }
        }
    }

    /// The digests of all streams, 16 bytes each; afterwards nothing can be added.
    package mutating func finish() -> [[UInt8]] {
        let ends = zip(tails, lengths).map { tail, length in
            let zeros = (2 * Self.block - 9 - tail.count) % Self.block
            return tail + [0x80] + [UInt8](repeating: 0, count: zeros)
                + withUnsafeBytes(of: (length &* 8).littleEndian) { Array($0) }
        }
        tails = [[UInt8]](repeating: [], count: Self.count)
        lengths = [UInt64](repeating: 0, count: Self.count)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * Self.block * Self.count, alignment: 64)
        defer { buffer.deallocate() }
        update(
            ends.enumerated().map { lane, end in
                let place = UnsafeMutableRawBufferPointer(rebasing: buffer[2 * Self.block * lane..<buffer.count])
                place.copyBytes(from: end)
                return UnsafeRawBufferPointer(rebasing: place[..<end.count])
            })
        return withUnsafeBytes(of: state) { words in
            (0..<Self.count).map { lane in
                (0..<4).flatMap { word in
                    let value = words.load(fromByteOffset: 4 * (word * Self.count + lane), as: UInt32.self)
                    return withUnsafeBytes(of: value.littleEndian) { Array($0) }
                }
            }
        }
    }

    private mutating func add(_ starts: [UnsafeRawPointer?], bytes: Int) {
        var blocks = starts.map { $0?.assumingMemoryBound(to: UInt8.self) }
        blocks += Array(repeating: nil, count: Self.count - blocks.count)
        larder_md5_add(&state, &blocks, bytes / Self.block)
    }
}
