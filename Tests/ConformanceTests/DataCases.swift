import CLinux
import Glibc
import Platform
import TestSupport

extension ConformanceCase {
    static let transferring: [ConformanceCase] = [
        ConformanceCase("what is written is read, at every size around pages and blocks") { s in
            var random = SeededGenerator(seed: 7)
            for size in [0, 1, 4095, 4096, 4097, 131_071, 131_072, 131_073, 1 << 20, (3 << 20) + 17] {
                let bytes = random.bytes(size)
                let name = "f\(size)"
                do {
                    let file = try s.require("a file", s.at.open(name, O_RDWR | O_CREAT).file)
                    s.ok("a write of \(size) bytes", file.put(bytes, at: 0))
                    s.check("the \(size) bytes by the same descriptor", file.bytes(size + 10) == bytes)
                }
                s.check("the \(size) bytes after closing", s.at.open(name, O_RDONLY).file?.bytes(size + 10) == bytes)
                s.equal("the size after closing", s.at.status(name)?.size, UInt64(size))
            }
        },
        ConformanceCase("small writes in any order make one file") { s in
            var random = SeededGenerator(seed: 8)
            let bytes = random.bytes(300_000)
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            let offsets = Array(stride(from: 0, to: bytes.count, by: 997)).shuffled(using: &random)
            for offset in offsets {
                let piece = Array(bytes[offset..<min(offset + 997, bytes.count)])
                if file.put(piece, at: offset) != 0 { s.fail("a write at \(offset) failed") }
            }
            s.check("the bytes", file.bytes(400_000) == bytes)
            s.ok("fsync", failure { fsync(file.raw) })
            s.check("the bytes by another descriptor", s.at.open("f", O_RDONLY).file?.bytes(400_000) == bytes)
        },
        ConformanceCase("one descriptor sees at once what another has written") { s in
            let writer = try s.require("a writer", s.at.open("f", O_RDWR | O_CREAT).file)
            let reader = try s.require("a reader", s.at.open("f", O_RDONLY).file)
            for round in 0..<50 {
                let text = "round \(round)"
                s.ok("a write", writer.put(text, at: round * 100))
                s.equal("what the reader sees", reader.text(text.utf8.count, at: round * 100), text)
                s.equal("the size by name", s.at.status("f")?.size, UInt64(round * 100 + text.utf8.count))
            }
        },
        ConformanceCase("lines appended by several descriptors and threads are all there, whole") { s in
            let at = s.at
            let errors = inParallel(6) { index -> CInt in
                guard let file = at.open("log", O_WRONLY | O_CREAT | O_APPEND).file else { return EIO }
                for line in 0..<200 {
                    let error = file.append(
                        "writer \(index) line \(line) " + String(repeating: ".", count: line % 70) + "\n")
                    if error != 0 { return error }
                }
                return 0
            }
            s.equal("what the writers saw", errors, [0, 0, 0, 0, 0, 0])
            let size = Int(s.at.status("log")?.size ?? 0)
            let text = s.at.open("log", O_RDONLY).file?.text(size + 1) ?? ""
            let lines = text.split(separator: "\n")
            s.equal("how many lines", lines.count, 1200)
            s.equal("how many different lines", Set(lines).count, 1200)
            for index in 0..<6 {
                let own = lines.filter { $0.hasPrefix("writer \(index) ") }.compactMap {
                    $0.split(separator: " ").dropFirst(3).first.flatMap { Int($0) }
                }
                s.equal("the order of writer \(index)", own, Array(0..<200))
            }
        },
        ConformanceCase("reads end at the end of the file") { s in
            try s.need("make", s.at.make("f", "0123456789"))
            let file = try s.require("the file", s.at.open("f", O_RDONLY).file)
            s.equal("over the end", file.text(100, at: 5), "56789")
            s.equal("at the end", file.text(100, at: 10), "")
            s.equal("far behind the end", file.text(100, at: 1 << 40), "")
            var byte: UInt8 = 0
            s.expect("at a negative offset", EINVAL, failure { pread(file.raw, &byte, 1, -1) })
            s.equal("lseek to the end", lseek(file.raw, 0, SEEK_END), 10)
            s.equal("lseek behind the end", lseek(file.raw, 5, SEEK_END), 15)
            s.expect("lseek before the start", EINVAL, failure { lseek(file.raw, -11, SEEK_END) })
            s.expect("lseek with a wrong whence", EINVAL, failure { lseek(file.raw, 0, 99) })
        },
        ConformanceCase("a shared mapping and read and write see the same bytes") { s in
            let length = 64 << 10
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            try s.need("ftruncate", file.truncate(length))
            let map = try s.require("a mapping", Mapping(file, length, PROT_READ | PROT_WRITE, MAP_SHARED))
            s.ok("a write", file.put("written", at: 5000))
            s.equal("through the mapping", map.text(5000, 7), "written")
            map.store("mapped!", at: 40_000)
            s.equal("by read", file.text(7, at: 40_000), "mapped!")
            s.equal("by another descriptor", s.at.open("f", O_RDONLY).file?.text(7, at: 40_000), "mapped!")
            s.ok("msync", map.synchronize())
            s.ok("unlink while it is mapped", s.at.unlink("f"))
            map.store("after", at: 100)
            s.equal("a mapping of a file without a name", file.text(5, at: 100), "after")
        },
        ConformanceCase("what a mapping has stored is in the file after unmapping and closing") { s in
            let length = 300_000
            do {
                let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
                try s.need("ftruncate", file.truncate(length))
                let map = try s.require("a mapping", Mapping(file, length, PROT_READ | PROT_WRITE, MAP_SHARED))
                for offset in stride(from: 0, to: length - 10, by: 1013) { map.store("@\(offset)", at: offset) }
            }
            let file = try s.require("the file", s.at.open("f", O_RDONLY).file)
            for offset in stride(from: 0, to: length - 10, by: 1013) {
                let wanted = "@\(offset)"
                if file.text(wanted.utf8.count, at: offset) != wanted { s.fail("the bytes at \(offset) are others") }
            }
        },
        ConformanceCase("a private mapping keeps its stores to itself") { s in
            try s.need("make", s.at.make("f", String(repeating: "o", count: 8192)))
            let file = try s.require("the file", s.at.open("f", O_RDONLY).file)
            let map = try s.require(
                "a private mapping of a reader", Mapping(file, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE))
            map.store("mine", at: 100)
            s.equal("the mapping", map.text(99, 6), "omineo")
            s.equal("the file", file.text(6, at: 99), "oooooo")
            s.check(
                "a shared writable mapping of a reader is refused",
                Mapping(file, 8192, PROT_READ | PROT_WRITE, MAP_SHARED) == nil)
            s.check("a shared readable mapping of a reader is not", Mapping(file, 8192, PROT_READ, MAP_SHARED) != nil)
        },
        ConformanceCase("truncation shows in a mapping, and what grows back is zeros there too") { s in
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            try s.need("a write", file.put(String(repeating: "x", count: 8192), at: 0))
            let map = try s.require("a mapping", Mapping(file, 8192, PROT_READ | PROT_WRITE, MAP_SHARED))
            s.equal("before", map.text(5000, 3), "xxx")
            s.ok("down within a page", file.truncate(100))
            s.equal("the rest of the page", map.text(99, 3), "x\0\0")
            s.ok("up", file.truncate(8192))
            s.equal("the second page", map.text(5000, 3), "\0\0\0")
            map.store("new", at: 5000)
            s.equal("a store there, by read", file.text(3, at: 5000), "new")
        },
        ConformanceCase("copy_file_range copies within and between files") { s in
            let bytes = SeededBytes.of(400_000, seed: 9)
            let from = try s.require("a file", s.at.open("from", O_RDWR | O_CREAT).file)
            let to = try s.require("another", s.at.open("to", O_RDWR | O_CREAT).file)
            try s.need("a write", from.put(bytes, at: 0))
            func copy(_ from: Descriptor, _ source: Int, _ to: Descriptor, _ place: Int, _ count: Int) -> Int {
                var (copied, source, place) = (0, Int64(source), Int64(place))
                while copied < count {
                    let step = RangeCopy.call(from.raw, &source, to.raw, &place, count - copied, 0)
                    if step < 0 { return -Int(errno) }
                    if step == 0 { break }
                    copied += step
                }
                return copied
            }
            s.equal("a whole file", copy(from, 0, to, 0, 400_000), 400_000)
            s.check("its bytes", to.bytes(500_000) == bytes)
            s.equal("a part to another place", copy(from, 1000, to, 500_001, 70_000), 70_000)
            s.check("its bytes there", to.bytes(70_000, at: 500_001) == Array(bytes[1000..<71_000]))
            s.check("zeros between", to.bytes(100_001, at: 400_000)?.allSatisfy { $0 == 0 } == true)
            s.equal("over the end of the source", copy(from, 399_000, to, 0, 5000), 1000)
            s.equal("within a file", copy(from, 0, from, 200_000, 100_000), 100_000)
            s.check("its bytes within", from.bytes(100_000, at: 200_000) == Array(bytes[..<100_000]))
            s.equal("over itself", copy(from, 0, from, 50_000, 100_000), -Int(EINVAL))
            let reader = try s.require("a reader", s.at.open("to", O_RDONLY).file)
            s.equal("to a reader", copy(from, 0, reader, 0, 100), -Int(EBADF))
            try s.need("mkdir", s.at.mkdir("d"))
            let directory = try s.require("a directory", s.at.open("d", O_RDONLY).file)
            s.equal("from a directory", copy(directory, 0, to, 0, 100), -Int(EISDIR))
        },
        ConformanceCase("fsync and fdatasync succeed on what was written, by any descriptor of it") { s in
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            s.ok("fsync of an empty file", failure { fsync(file.raw) })
            s.ok("a write", file.put("bytes", at: 0))
            s.ok("fdatasync", failure { fdatasync(file.raw) })
            let reader = try s.require("a reader", s.at.open("f", O_RDONLY).file)
            s.ok("fsync by a reader", failure { fsync(reader.raw) })
            s.ok("unlink", s.at.unlink("f"))
            s.ok("fsync of a file without a name", failure { fsync(file.raw) })
        },
        ConformanceCase("a duplicated descriptor shares the position, another open does not") { s in
            try s.need("make", s.at.make("f", "0123456789"))
            let file = try s.require("the file", s.at.open("f", O_RDONLY).file)
            let copy = try s.require("a duplicate", try? file.duplicate())
            let other = try s.require("another", s.at.open("f", O_RDONLY).file)
            lseek(file.raw, 4, SEEK_SET)
            s.equal("the position of the duplicate", lseek(copy.raw, 0, SEEK_CUR), 4)
            s.equal("the position of the other", lseek(other.raw, 0, SEEK_CUR), 0)
        },
    ]
}

enum SeededBytes {
    static func of(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        return random.bytes(count)
    }
}

/// mmap(2) of the start of a file; unmapped with the object.
final class Mapping {
    let start: UnsafeMutableRawPointer
    let length: Int

    /// nil when the kernel refuses.
    init?(_ file: Descriptor, _ length: Int, _ protection: CInt, _ flags: CInt) {
        guard let start = mmap(nil, length, protection, flags, file.raw, 0), start != MAP_FAILED else { return nil }
        self.start = start
        self.length = length
    }

    deinit { munmap(start, length) }

    func text(_ offset: Int, _ count: Int) -> String {
        String(decoding: UnsafeRawBufferPointer(start: start + offset, count: count), as: UTF8.self)
    }
    func store(_ text: String, at offset: Int) {
        (start + offset).copyMemory(from: Array(text.utf8), byteCount: text.utf8.count)
    }
    func synchronize() -> CInt { failure { msync(start, length, CInt(MS_SYNC)) } }
}

/// copy_file_range(2), which Glibc declares only under _GNU_SOURCE.
enum RangeCopy {
    typealias Call =
        @convention(c) (
            CInt, UnsafeMutablePointer<Int64>, CInt, UnsafeMutablePointer<Int64>, Int, CUnsignedInt
        ) -> Int
    static let call: Call = {
        guard let symbol = dlsym(nil, "copy_file_range") else { preconditionFailure("no copy_file_range(2)") }
        return unsafeBitCast(symbol, to: Call.self)
    }()
}
