import Platform
import Testing

@Suite("CRC32C")
struct ChecksumTests {
    private static let vectors: [(bytes: [UInt8], checksum: UInt32)] = [
        (Array(repeating: 0, count: 32), 0x8A91_36AA), (Array(repeating: 0xFF, count: 32), 0x62A8_AB43),
        (Array(0..<32), 0x46DD_794E), (Array((0..<32).reversed()), 0x113F_DB5C),
        (Array("123456789".utf8), 0xE306_9283), ([], 0),
        (
            [
                0x01, 0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0x14,
                0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
            ], 0xD996_3A56
        ),
    ]

    @Test("the vectors of RFC 3720, B.4", arguments: vectors)
    func knownValues(bytes: [UInt8], checksum: UInt32) {
        #expect(bytes.withUnsafeBytes { CRC32C.of($0) } == checksum)
    }

    @Test("pieces of any size give the checksum of the whole", arguments: [1, 3, 7, 64, 1000, 4096])
    func pieces(size: Int) {
        let bytes = (0..<10_007).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        var checksum = CRC32C()
        bytes.withUnsafeBytes { all in
            for start in stride(from: 0, to: all.count, by: size) {
                checksum.update(UnsafeRawBufferPointer(rebasing: all[start..<min(start + size, all.count)]))
            }
            #expect(checksum.value == CRC32C.of(all))
        }
    }

    @Test("the checksums of two halves make that of the whole", arguments: [0, 1, 63, 4096, 9999, 10_007])
    func joining(length: Int) {
        let bytes = (0..<10_007).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let (first, second) = (CRC32C(bytes[..<length]), CRC32C(bytes[length...]))
        let joined = CRC32C.joining(first.value, second.value, count: UInt64(bytes.count - length))
        #expect(joined == CRC32C(bytes[...]).value)
        var print = Fingerprint()
        bytes.withUnsafeBytes { all in
            print.update(UnsafeRawBufferPointer(rebasing: all[..<length]))
            print.update(UnsafeRawBufferPointer(rebasing: all[length...]), crc32c: second.value)
        }
        #expect(print.crc32c == joined && print.length == 10_007)
    }

    @Test("one changed bit changes it")
    func sensitivity() {
        var bytes = [UInt8](repeating: 7, count: 4096)
        let before = bytes.withUnsafeBytes { CRC32C.of($0) }
        bytes[2048] ^= 1
        #expect(bytes.withUnsafeBytes { CRC32C.of($0) } != before)
    }
}

extension CRC32C {
    fileprivate init(_ bytes: ArraySlice<UInt8>) {
        self.init()
        bytes.withUnsafeBytes { update($0) }
    }
}
