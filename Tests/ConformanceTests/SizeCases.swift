import CLinux
import Glibc
import Platform

extension ConformanceCase {
    static let resizing: [ConformanceCase] = [
        ConformanceCase("truncate cuts a file, and what grows back is zeros") { s in
            try s.need("make", s.at.make("f", String(repeating: "x", count: 10_000)))
            s.ok("down", s.at.truncate("f", 5000))
            s.equal("the size", s.at.status("f")?.size, 5000)
            s.ok("up", s.at.truncate("f", 9000))
            let bytes = s.at.open("f", O_RDONLY).file?.bytes(20_000) ?? []
            s.equal("bytes read", bytes.count, 9000)
            s.check("the first 5000 are kept", bytes.prefix(5000).allSatisfy { $0 == UInt8(ascii: "x") })
            s.check("the rest is zeros", bytes.dropFirst(5000).allSatisfy { $0 == 0 })
            s.ok("to 0", s.at.truncate("f", 0))
            s.equal("the blocks of an empty file", s.at.status("f")?.blocks, 0)
        },
        ConformanceCase("ftruncate works through a descriptor that may write, and others see it at once") { s in
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            let other = try s.require("another descriptor", s.at.open("f", O_RDONLY).file)
            s.ok("a write", file.put("0123456789", at: 0))
            s.ok("down", file.truncate(4))
            s.equal("what the other reads", other.text(), "0123")
            s.ok("up", file.truncate(6))
            s.equal("what the other reads then", other.text(), "0123\0\0")
            s.equal("the size by name", s.at.status("f")?.size, 6)
        },
        ConformanceCase("a file grows to gigabytes without taking space") { s in
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            let size = s.has(.sparseFiles) ? 5 << 30 : 40 << 20
            s.ok("up", file.truncate(size))
            s.equal("the size", s.at.status("f")?.size, UInt64(size))
            if s.has(.sparseFiles) {
                s.check("it takes less than 1 MiB", (s.at.status("f")?.blocks ?? .max) < 2048)
            }
            s.ok("a write at the end", file.put("end", at: size - 3))
            s.equal("the end", file.text(100, at: size - 3), "end")
            s.equal("the middle", file.bytes(4, at: size / 2), [0, 0, 0, 0])
            s.equal("beyond the end", file.bytes(4, at: size), [])
        },
        ConformanceCase("truncate refuses negative and impossible sizes and what is no file") { s in
            try s.need("make", s.at.make("f", "abc"))
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("symlink", s.at.symlink("f", "link"))
            if s.has(.nodes) {
                try s.need("mkfifo", s.at.mknod("pipe", S_IFIFO | 0o600))
                s.expect("a pipe", EINVAL, s.at.truncate("pipe", 0))
            }
            s.expect("a negative size", EINVAL, s.at.truncate("f", -1))
            s.expect("the largest number", anyOf: [EFBIG, EINVAL], s.at.truncate("f", Int.max))
            s.expect("a directory", EISDIR, s.at.truncate("d", 0))
            s.expect("nothing", ENOENT, s.at.truncate("none", 0))
            s.expect("below a file", ENOTDIR, s.at.truncate("f/x", 0))
            s.equal("the size after all that", s.at.status("f")?.size, 3)
            s.ok("through a link", s.at.truncate("link", 1))
            s.equal("the size of its target", s.at.status("f")?.size, 1)
        },
        ConformanceCase("truncate sets mtime and ctime, also to the same size with ftruncate") { s in
            try s.need("make", s.at.make("f", "abc"))
            for (what, change) in [
                ("truncate", { s.at.truncate("f", 2) }),
                ("ftruncate to the same size", { s.at.open("f", O_RDWR).file?.truncate(2) ?? EBADF }),
                ("O_TRUNC", { s.at.openError("f", O_WRONLY | O_TRUNC) }),
            ] {
                try s.need("utimens", s.at.utimens("f", (time(1000), time(1000))))
                s.ok(what, change())
                s.check("\(what) sets the mtime", (s.at.status("f")?.modified.seconds ?? 0) > 1000)
            }
        },
        ConformanceCase("a write beyond the end leaves zeros between") { s in
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            s.ok("a write at 100 000", file.put("far", at: 100_000))
            s.equal("the size", file.size, 100_003)
            s.check("zeros before", file.bytes(100_000)?.allSatisfy { $0 == 0 } == true)
            s.ok("a write in the hole", file.put("mid", at: 50_000))
            s.equal("around it", file.bytes(5, at: 49_999), [0] + Array("mid".utf8) + [0])
            s.expect("a write at the largest offset", anyOf: [EFBIG, EINVAL], file.put("x", at: Int.max - 1))
            s.expect("a write at a negative offset", EINVAL, file.put("x", at: -1))
        },
        ConformanceCase("fallocate makes room, with and without growing the file") { s in
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            s.ok("a write", file.put("abc", at: 0))
            s.ok("fallocate", -larder_fallocate(file.raw, 0, 0, 100_000))
            s.equal("the size", file.size, 100_000)
            s.equal("the first bytes", file.bytes(5), Array("abc".utf8) + [0, 0])
            s.ok("with FALLOC_FL_KEEP_SIZE", -larder_fallocate(file.raw, keepSize, 0, 500_000))
            s.equal("the size then", file.size, 100_000)
            s.check("the blocks are there", ((try? file.status().blocks) ?? 0) >= 500_000 / 512)
            s.expect("a length of 0", EINVAL, -larder_fallocate(file.raw, 0, 0, 0))
            let reader = try s.require("a reader", s.at.open("f", O_RDONLY).file)
            s.expect("through a reader", EBADF, -larder_fallocate(reader.raw, 0, 0, 100))
        },
        ConformanceCase("a punched or zeroed range reads as zeros and leaves the rest and the size alone") { s in
            let pattern = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 % 251 + 1) }
            for (what, mode) in [
                ("punch", punchHole | keepSize), ("zero", zeroRange), ("zero kept", zeroRange | keepSize),
            ] {
                let file = try s.require("a file", s.at.open(what, O_RDWR | O_CREAT).file)
                try s.need("a write", file.put(pattern, at: 0))
                try s.need(what, -larder_fallocate(file.raw, mode, 5000, 100_000))
                var wanted = pattern
                for index in 5000..<105_000 { wanted[index] = 0 }
                s.check("bytes after \(what)", file.bytes(300_000) == wanted)
                s.ok("\(what) over the end", -larder_fallocate(file.raw, mode | keepSize, 190_000, 100_000))
                for index in 190_000..<200_000 { wanted[index] = 0 }
                s.check("bytes after \(what) over the end", file.bytes(300_000) == wanted)
                s.equal("the size after \(what)", file.size, 200_000)
            }
            let file = try s.require("a file", s.at.open("punch", O_RDWR).file)
            s.ok("punch of the whole", -larder_fallocate(file.raw, punchHole | keepSize, 0, 200_000))
            s.equal("its blocks", (try? file.status())?.blocks, 0)
            s.expect("punch without FALLOC_FL_KEEP_SIZE", EOPNOTSUPP, -larder_fallocate(file.raw, punchHole, 0, 4096))
        },
        ConformanceCase("a collapsed or inserted range moves what is behind it") { s in
            guard s.has(.collapsing) else { return }
            let block = 1 << 17  // of whole blocks, whatever their size
            let parts = (1...4).map { [UInt8](repeating: $0, count: block) }
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            try s.need("a write", file.put(Array(parts.joined()), at: 0))
            try s.need("FALLOC_FL_COLLAPSE_RANGE", -larder_fallocate(file.raw, 0x08, UInt64(block), UInt64(block)))
            s.check("bytes after collapsing", file.bytes(8 * block) == parts[0] + parts[2] + parts[3])
            try s.need("FALLOC_FL_INSERT_RANGE", -larder_fallocate(file.raw, 0x20, UInt64(block), UInt64(block)))
            let hole = [UInt8](repeating: 0, count: block)
            s.check("bytes after inserting", file.bytes(8 * block) == parts[0] + hole + parts[2] + parts[3])
        },
        ConformanceCase("SEEK_DATA and SEEK_HOLE find what is written and the holes between") { s in
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            let (data, hole): (CInt, CInt) = (3, 4)
            try s.need("a write", file.put([UInt8](repeating: 1, count: 1 << 20), at: 4 << 20))
            try s.need("up", file.truncate(8 << 20))
            s.equal("the first data", lseek(file.raw, 0, data), 4 << 20)
            s.equal("the first hole", lseek(file.raw, 0, hole), 0)
            s.equal("the hole behind the data", lseek(file.raw, 4 << 20, hole), 5 << 20)
            s.expect("data behind the last", ENXIO, failure { lseek(file.raw, 6 << 20, data) })
            s.expect("data at the end", ENXIO, failure { lseek(file.raw, 8 << 20, data) })
            s.expect("a hole at the end", ENXIO, failure { lseek(file.raw, 8 << 20, hole) })
            let full = try s.require("a full file", s.at.open("g", O_RDWR | O_CREAT).file)
            try s.need("a write", full.put([UInt8](repeating: 1, count: 100_000), at: 0))
            s.equal("the hole at the end of a full file", lseek(full.raw, 0, hole), 100_000)
            s.equal("data in a full file", lseek(full.raw, 50_000, data), 50_000)
        },
    ]
}

private let keepSize: CInt = 1
private let punchHole: CInt = 2
private let zeroRange: CInt = 0x10
