import Platform
import Testing

@Suite struct MD5LanesTests {
    private func digests(_ streams: [[UInt8]], pieces: Int = .max) -> [String] {
        var lanes = MD5Lanes()
        var start = 0
        while streams.contains(where: { start < $0.count }) {
            let parts = streams.map { Array($0.dropFirst(start).prefix(pieces)) }
            let buffer = UnsafeMutableRawBufferPointer.allocate(
                byteCount: parts.reduce(1) { $0 + $1.count }, alignment: 1)
            defer { buffer.deallocate() }
            var used = 0
            lanes.update(
                parts.map { part in
                    let place = UnsafeMutableRawBufferPointer(rebasing: buffer[used..<used + part.count])
                    place.copyBytes(from: part)
                    used += part.count
                    return UnsafeRawBufferPointer(place)
                })
            start = pieces == .max ? .max : start + pieces
        }
        return lanes.finish().map { $0.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined() }
    }

    /// RFC 1321, A.5.
    @Test func theVectorsOfTheStandardSideBySide() {
        let texts = [
            "", "a", "abc", "message digest", "abcdefghijklmnopqrstuvwxyz",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
        ]
        #expect(
            digests(texts.map { Array($0.utf8) }) == [
                "d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661",
                "900150983cd24fb0d6963f7d28e17f72",
                "f96b697d7cb7938d525a2f31aaf161d0", "c3fcd3d76192e4007dfb496cca67e13b",
                "d174ab98d277d9f5a5611c2c9f419d9f",
                "57edf4a22be3c955ac49da2e2107b67a", "d41d8cd98f00b204e9800998ecf8427e",
            ])
    }

    @Test func lanesThatEndAtDifferentPlacesDoNotDisturbEachOther() {
        // Around the ends of blocks and of their padding.
        let lengths = [0, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000, 4096, 4097]
        let streams = lengths.map { length in (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ length) } }
        let alone = streams.map { digests([$0])[0] }
        for first in 0...streams.count - MD5Lanes.count {
            let group = Array(streams[first..<first + MD5Lanes.count])
            #expect(digests(group) == Array(alone[first..<first + MD5Lanes.count]))
            #expect(digests(group, pieces: 128) == Array(alone[first..<first + MD5Lanes.count]))
        }
        #expect(Set(alone).count == streams.count)
    }
}
