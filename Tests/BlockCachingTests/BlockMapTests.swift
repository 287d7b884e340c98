import BlockMaps
import CLinux
import Glibc
import Platform
import SystemPackage
import Testing

@testable import BlockCaching

private let digest = ObjectDigest(high: 0x0123_4567_89AB_CDEF, low: 42)

private func newMap(size: UInt64 = 1_000_001, blockSize: Int = 4096) throws -> BlockMap {
    try BlockMap(try #require(BlockGeometry(objectSize: size, blockSize: blockSize)), digest: digest)
}

@Suite struct BlockMapTests {
    @Test func readersSeeWhatTheWriterMarksAndClears() throws {
        let map = try newMap()
        let reader = try BlockMapReader(map.descriptor)
        #expect(reader.objectSize == 1_000_001 && reader.blockSize == 4096 && reader.digest == digest)
        #expect(!reader.isPresent(offset: 0, length: 1))
        for block in 3..<140 { map.markPresent(block, checksum: UInt32(block)) }
        #expect(reader.isPresent(offset: 3 * 4096, length: 137 * 4096))
        #expect(!reader.isPresent(offset: 3 * 4096, length: 137 * 4096 + 1))
        #expect(!reader.isPresent(offset: 3 * 4096 - 1, length: 2))
        #expect(reader.presentPrefix(from: 4 * 4096 + 7, limit: 1 << 30) == 136 * 4096 - 7)
        #expect(reader.presentPrefix(from: 4 * 4096 + 7, limit: 100) == 100)
        let epoch = reader.epoch()
        #expect(reader.isUnchanged(since: epoch))
        #expect(map.clear(64..<66) == 2)
        #expect(!reader.isUnchanged(since: epoch))
        #expect(reader.presentPrefix(from: 3 * 4096, limit: 1 << 30) == 61 * 4096)
        #expect(map.presentCount(in: 0..<200) == 135)
        #expect(map.checksum(of: 100) == 100)
    }

    @Test func bytesPastTheEndCountAsPresent() throws {
        let map = try newMap(size: 4097)
        let reader = try BlockMapReader(map.descriptor)
        map.markPresent(1, checksum: 0)
        #expect(reader.isPresent(offset: 4096, length: 1 << 20))
        #expect(reader.isPresent(offset: 1 << 40, length: 4096))
        #expect(reader.isPresent(offset: UInt64.max, length: Int.max))
        #expect(!reader.isPresent(offset: 0, length: Int.max))
        #expect(map.presentBytes == 1)
    }

    @Test func presenceAgreesWithAPlainSet() throws {
        var random = SeededRandom(seed: 7)
        for blocks in [1, 63, 64, 65, 128, 1000] {
            let map = try newMap(size: UInt64(blocks) * 4096 - 17)
            let reader = try BlockMapReader(map.descriptor)
            var model = Set<Int>()
            for _ in 0..<300 {
                let low = Int.random(in: 0..<blocks, using: &random)
                let high = Int.random(in: low...min(blocks, low + 90), using: &random)
                if Bool.random(using: &random) {
                    for block in low..<high {
                        let isNew = model.insert(block).inserted
                        #expect(map.markPresent(block, checksum: 1) == isNew)
                    }
                } else {
                    #expect(map.clear(low..<high) == model.filter { (low..<high).contains($0) }.count)
                    model.subtract(low..<high)
                }
                let from = Int.random(in: 0..<blocks, using: &random)
                let gap = (from..<blocks).first { !model.contains($0) } ?? blocks
                #expect(map.firstAbsent(in: from..<blocks) == (gap == blocks ? nil : gap))
                #expect(map.firstPresent(in: from..<blocks) == (from..<blocks).first { model.contains($0) })
                #expect(
                    reader.presentPrefix(from: UInt64(from) * 4096, limit: (gap - from) * 4096) == (gap - from) * 4096)
                #expect(map.presentCount(in: 0..<blocks) == model.count)
            }
        }
    }

    @Test func aLentMapCannotBeResizedOrWritten() throws {
        let map = try newMap()
        #expect(ftruncate(map.descriptor.raw, 10) == -1)
        #expect(pwrite(map.descriptor.raw, "x", 1, 0) == -1)
        #expect(throws: (any Error).self) { try MappedRegion(map.descriptor, count: 4096, writable: true) }
    }

    @Test func aMapThatCouldShrinkUnderTheReaderIsRefused() throws {
        let map = try newMap()
        let file = try Descriptor.memory(named: "unsealed")
        try map.save(to: file)
        #expect(throws: BlockMapError.malformed("not sealed against shrinking")) { try BlockMapReader(file) }
    }

    @Test func savedMapsComeBackAndOthersAreRefused() throws {
        let map = try newMap()
        for block in [0, 5, 64, 244] { map.markPresent(block, checksum: UInt32(block) &* 77) }
        let file = try Descriptor.memory(named: "saved")
        try map.save(to: file)
        let loaded = try BlockMap(loading: file, geometry: map.geometry, digest: digest)
        #expect((0..<245).filter { loaded.isPresent($0) } == [0, 5, 64, 244])
        #expect(loaded.checksum(of: 244) == 244 * 77)
        #expect(throws: BlockMapError.self) {
            try BlockMap(loading: file, geometry: map.geometry, digest: ObjectDigest(high: 0, low: 0))
        }
        let other = try #require(BlockGeometry(objectSize: 1_000_002, blockSize: 4096))
        #expect(throws: BlockMapError.self) { try BlockMap(loading: file, geometry: other, digest: digest) }
    }

    @Test func everyDamagedHeaderByteIsNoticed() throws {
        let map = try newMap()
        for offset in 0..<64 {
            let file = try Descriptor.memory(named: "damaged")
            try map.save(to: file)
            var byte = [UInt8](repeating: 0, count: 1)
            _ = try byte.withUnsafeMutableBytes { try file.read(into: $0, at: UInt64(offset)) }
            byte[0] ^= 0x40
            try byte.withUnsafeBytes { try file.write($0, at: UInt64(offset)) }
            #expect(throws: BlockMapError.self, "byte \(offset)") {
                try BlockMap(loading: file, geometry: map.geometry, digest: digest)
            }
        }
    }

    @Test func hostileMapsWithAValidChecksumAreRefused() throws {
        // Every field by itself: newer version, header size, block sizes, counts that would overflow, wrong file sizes.
        let hostile: [(offset: Int, bytes: [UInt8])] = [
            (8, [2, 0, 0, 0]), (12, [0, 1, 0, 0]), (16, [0, 0, 0, 0]), (16, [1, 16, 0, 0]), (16, [0, 0, 0, 0x80]),
            (24, [UInt8](repeating: 0xFF, count: 8)), (32, [UInt8](repeating: 0xFF, count: 8)),
            (32, [1, 0, 0, 0, 0, 0, 0, 0]),
            (20, [1, 0, 0, 0]), (56, [1, 0, 0, 0]),
        ]
        let layout = BlockMapLayout(try #require(BlockGeometry(objectSize: 1_000_001, blockSize: 4096)))
        for change in hostile {
            var header = layout.header(digest: digest)
            header.replaceSubrange(change.offset..<change.offset + change.bytes.count, with: change.bytes)
            let checksum = header[..<60].withUnsafeBytes { CRC32C.of($0) }
            withUnsafeBytes(of: checksum.littleEndian) { header.replaceSubrange(60..<64, with: $0) }
            let raw = try Errno.check(larder_memfd_sealable("hostile", UInt64(layout.fileSize)))
            let file = Descriptor(owning: raw)
            try header.withUnsafeBytes { try file.write($0, at: 0) }
            _ = try Errno.check(larder_seal_for_readers(raw))
            #expect(throws: BlockMapError.self, "offset \(change.offset)") { try BlockMapReader(file) }
        }
    }

    @Test(arguments: [0, 1, 127, 128, 1000]) func mapsOfTheWrongSizeAreRefused(size: Int) throws {
        let map = try newMap()
        let raw = try Errno.check(larder_memfd_sealable("short", UInt64(size)))
        let file = Descriptor(owning: raw)
        let header = map.layout.header(digest: digest)
        try header[..<min(size, header.count)].withUnsafeBytes { try file.write($0, at: 0) }
        _ = try Errno.check(larder_seal_for_readers(raw))
        #expect(throws: BlockMapError.self) { try BlockMapReader(file) }
    }

    @Test func bitsPastTheLastBlockAreRefused() throws {
        let map = try newMap()
        let file = try Descriptor.memory(named: "tail")
        try map.save(to: file)
        try [UInt8](repeating: 0x80, count: 1).withUnsafeBytes { try file.write($0, at: 128 + 4 * 8 - 1) }
        #expect(throws: BlockMapError.self) { try BlockMap(loading: file, geometry: map.geometry, digest: digest) }
    }

    @Test func testingPresenceAllocatesNothing() throws {
        let map = try newMap()
        for block in 0..<200 { map.markPresent(block, checksum: 0) }
        let reader = try BlockMapReader(map.descriptor)
        #expect(!runsWithoutMemory { _ = Unmanaged.passRetained(Sample()) }, "the check finds nothing")
        #expect(
            runsWithoutMemory {
                for offset in 0..<1000 {
                    let epoch = reader.epoch()
                    guard reader.isPresent(offset: UInt64(offset) * 512, length: 4096), reader.isUnchanged(since: epoch)
                    else {
                        _exit(1)
                    }
                }
            })
    }
}

private final class Sample {}

/// Whether `body` ends well in a process that has no byte left to allocate.
private func runsWithoutMemory(_ body: () -> Void) -> Bool {
    // Swift hides fork(2) because little may be done in the child; allocating is what must not be done here anyway.
    guard let symbol = dlsym(nil, "fork") else { return false }
    let fork = unsafeBitCast(symbol, to: (@convention(c) () -> pid_t).self)
    let child = fork()
    if child == 0 {
        for number in [SIGSEGV, SIGABRT, SIGILL, SIGTRAP, SIGBUS, SIGFPE] { signal(number, SIG_DFL) }
        var limit = rlimit(rlim_cur: 0, rlim_max: 0)
        setrlimit(CInt(RLIMIT_AS.rawValue), &limit)
        var size = 1 << 30
        while size >= 16 {
            while malloc(size) != nil {}
            size /= 2
        }
        body()
        _exit(0)
    }
    var status: CInt = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    return child > 0 && status == 0
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same stream for the same seed.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
