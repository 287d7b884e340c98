import Platform
import Testing

@Suite("Records")
struct RecordCodingTests {
    /// A record with every kind of field.
    private struct Sample: Equatable {
        var number: UInt32 = 0x0403_0201
        var signed: Int64 = -5
        var name: ByteString = "größe/\u{0}x"
        var long = [UInt8](repeating: 7, count: 70_000)
        var time = FileTime(seconds: -1, nanoseconds: 999_999_999)
        var some: UInt16? = 300
        var none: FileTime?

        func encoded() -> [UInt8] {
            var writer = RecordWriter()
            writer.integer(number)
            writer.integer(signed)
            writer.bytes(name)
            writer.counted(long)
            writer.time(time)
            writer.optional(some) { $0.integer($1) }
            writer.optional(none) { $0.time($1) }
            return writer.bytes
        }

        init() {}

        init?(_ bytes: [UInt8]) {
            let decoded = bytes.withUnsafeBytes { buffer -> Sample? in
                var reader = RecordReader(buffer)
                guard let number = reader.integer(UInt32.self), let signed = reader.integer(Int64.self),
                    let name = reader.bytes(), let long = reader.counted(limit: 100_000), let time = reader.time(),
                    let some = reader.optional({ $0.integer(UInt16.self) }),
                    let none = reader.optional({ $0.time() }), reader.isAtEnd
                else { return nil }
                var sample = Sample()
                (sample.number, sample.signed, sample.name, sample.long) = (number, signed, name, long)
                (sample.time, sample.some, sample.none) = (time, some, none)
                return sample
            }
            guard let decoded else { return nil }
            self = decoded
        }
    }

    @Test("what was written is read again")
    func roundTrip() {
        #expect(Sample(Sample().encoded()) == Sample())
        var other = Sample()
        (other.some, other.none, other.name, other.long) = (nil, FileTime(seconds: 1, nanoseconds: 2), "", [])
        #expect(Sample(other.encoded()) == other)
    }

    @Test("fields are little-endian and in order, whatever the machine")
    func layout() {
        var writer = RecordWriter()
        writer.integer(0x0102 as UInt16)
        writer.bytes("ab")
        writer.counted([9])
        writer.optional(3 as UInt8?) { $0.integer($1) }
        writer.optional(nil as UInt8?) { $0.integer($1) }
        #expect(writer.bytes == [2, 1, 2, 0, 97, 98, 1, 0, 0, 0, 9, 1, 3, 0])
    }

    @Test("a record that was cut off anywhere, or continues, is refused")
    func truncatedAndOverlong() {
        let bytes = Sample().encoded()
        for count in [Int](0..<200) + Array(bytes.count - 200..<bytes.count) {
            #expect(Sample(Array(bytes[..<count])) == nil, "\(count) of \(bytes.count) bytes")
        }
        #expect(Sample(bytes + [0]) == nil)
    }

    @Test("lengths beyond the bytes or the limit are refused, and allocate nothing")
    func hostileLengths() {
        func read<Value>(_ bytes: [UInt8], _ body: (inout RecordReader) -> Value?) -> Value? {
            bytes.withUnsafeBytes { buffer in
                var reader = RecordReader(buffer)
                return body(&reader)
            }
        }
        #expect(read([0xFF, 0xFF, 1]) { $0.bytes() } == nil)
        #expect(read([3, 0, 1, 2]) { $0.bytes() } == nil)
        #expect(read([0xFF, 0xFF, 0xFF, 0xFF, 1]) { $0.counted(limit: .max) } == nil)
        #expect(read([2, 0, 0, 0, 8, 9]) { $0.counted(limit: 1) } == nil)
        #expect(read([2, 0, 0, 0, 8, 9]) { $0.counted(limit: 2) } == [8, 9])
        #expect(read([2, 1]) { $0.optional { $0.integer(UInt8.self) } } == nil, "neither there nor absent")
        #expect(read([1]) { $0.optional { $0.integer(UInt8.self) } } == nil)
        #expect(read([]) { $0.integer(UInt8.self) } == nil)
    }

    @Test("a name that is too long for its length is cut, and the record stays readable")
    func longName() {
        var writer = RecordWriter()
        writer.bytes(ByteString([UInt8](repeating: 1, count: 65_536)))
        writer.integer(42 as UInt8)
        let (name, next) = writer.bytes.withUnsafeBytes { buffer in
            var reader = RecordReader(buffer)
            return (reader.bytes(), reader.integer(UInt8.self))
        }
        #expect(name?.count == 65_535)
        #expect(next == 42)
    }

    @Test("no bytes whatever make the reader read past the end")
    func arbitraryBytes() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<5000 {
            let bytes = (0..<Int.random(in: 0..<64, using: &random)).map { _ in
                UInt8.random(in: 0...(Bool.random() ? 255 : 3), using: &random)
            }
            bytes.withUnsafeBytes { buffer in
                var reader = RecordReader(buffer)
                var read = 0
                while !reader.isAtEnd, read < 100 {
                    read += 1
                    switch Int.random(in: 0..<5, using: &random) {
                    case 0: guard reader.integer(UInt32.self) != nil else { return }
                    case 1: guard let value = reader.bytes(), value.count <= bytes.count else { return }
                    case 2: guard let value = reader.counted(limit: 40), value.count <= 40 else { return }
                    case 3: guard reader.time() != nil else { return }
                    default: guard reader.optional({ $0.integer(UInt8.self) }) != nil else { return }
                    }
                }
            }
        }
    }
}
