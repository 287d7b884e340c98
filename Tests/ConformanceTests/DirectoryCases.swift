import Glibc
import Platform

extension ConformanceCase {
    static let listing: [ConformanceCase] = [
        ConformanceCase("a directory of many names is listed with each name once") { s in
            let count = s.target == .s3Mount ? 1200 : 3000  // each is a request, and a listing's page has 1000
            let names = (0..<count).map { "name-\($0)-" + String(repeating: "x", count: $0 % 60) }
            for name in names { try s.need("make", s.at.make(name)) }
            let listed = s.at.names()
            s.equal("how many are listed", listed.count, names.count)
            s.equal("what is listed", Set(listed), Set(names))
            for name in names { s.ok("unlink", s.at.unlink(name)) }
            s.equal("what is listed when all are gone", s.at.names(), [])
        },
        ConformanceCase("the dots are listed as the directory and its parent") { s in
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("make", s.at.make("d/f"))
            try s.need("symlink", s.at.symlink("f", "d/l"))
            if s.has(.nodes) { try s.need("mkfifo", s.at.mknod("d/p", S_IFIFO | 0o600)) }
            let entries = directoryEntries(s.at.path("d"))
            s.equal("the names", Set(entries.keys), Set([".", "..", "f", "l"] + (s.has(.nodes) ? ["p"] : [])))
            s.equal("the inode of .", entries["."]?.inode, s.at.status("d")?.inode)
            s.equal("the inode of ..", entries[".."]?.inode, s.at.status()?.inode)
            s.equal("the type of a link", entries["l"]?.type, UInt8(DT_LNK))
            if s.has(.nodes) { s.equal("the type of a pipe", entries["p"]?.type, UInt8(DT_FIFO)) }
        },
        ConformanceCase("what is there all the time is listed once while other names come and go") { s in
            let stable = Set((0..<400).map { "stable-\($0)" })
            for name in stable { try s.need("make", s.at.make(name)) }
            let (at, started, stop) = (s.at, OneShot<Bool>(), OneShot<Bool>())
            let changes = inBackground { () -> Int in
                var count = 0
                while stop.wait(timeout: .zero) == nil {
                    _ = at.make("moving-\(count % 50)")
                    _ = at.unlink("moving-\((count + 25) % 50)")
                    count += 1
                    started.set(true)
                }
                return count
            }
            waitFor(started)
            for _ in 0..<20 {
                let listed = s.at.names().filter { $0.hasPrefix("stable") }
                s.equal("names that were there all the time", listed.count, stable.count)
                s.equal("which", Set(listed), stable)
            }
            stop.set(true)
            s.check("names came and went meanwhile", changes() > 0)
        },
        ConformanceCase("removing what readdir has given, while it goes on, removes all") { s in
            let count = s.target == .s3Mount ? 300 : 1500
            for index in 0..<count { try s.need("make", s.at.make("f\(index)")) }
            let directory = try s.require("the directory", opendir(s.at.root))
            var removed = 0
            while let entry = readdir(directory) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name == "." || name == ".." { continue }
                s.ok("unlink", s.at.unlink(name))
                removed += 1
            }
            closedir(directory)
            s.equal("names removed", removed, count)
            s.equal("what is left", s.at.names(), [])
        },
        ConformanceCase("seekdir goes back to where telldir was") { s in
            for index in 0..<300 { try s.need("make", s.at.make("f\(index)")) }
            let directory = try s.require("the directory", opendir(s.at.root))
            defer { closedir(directory) }
            func next() -> String? {
                readdir(directory).map { entry in
                    withUnsafePointer(to: &entry.pointee.d_name) {
                        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                    }
                }
            }
            var order: [(position: Int, name: String)] = []
            while true {
                let position = telldir(directory)
                guard let name = next() else { break }
                order.append((position, name))
            }
            s.equal("how many names", order.count, 302)
            for index in [0, 1, 150, 299, 301, 7] where index < order.count {
                seekdir(directory, order[index].position)
                s.equal("the name at place \(index)", next(), order[index].name)
            }
        },
        ConformanceCase("rewinddir shows what has come and gone since") { s in
            try s.need("make", s.at.make("before"))
            let directory = try s.require("the directory", opendir(s.at.root))
            defer { closedir(directory) }
            func all() -> Set<String> {
                var names: Set<String> = []
                while let entry = readdir(directory) {
                    names.insert(
                        withUnsafePointer(to: &entry.pointee.d_name) {
                            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                        })
                }
                return names
            }
            s.equal("at first", all(), [".", "..", "before"])
            try s.need("make", s.at.make("after"))
            try s.need("unlink", s.at.unlink("before"))
            rewinddir(directory)
            s.equal("after rewinddir", all(), [".", "..", "after"])
        },
        ConformanceCase("opendir is for directories") { s in
            try s.need("make", s.at.make("f"))
            try s.need("symlink", s.at.symlink(".", "link"))
            s.expect("a file", ENOTDIR, opendir(s.at.path("f")) == nil ? errno : 0)
            s.expect("nothing", ENOENT, opendir(s.at.path("none")) == nil ? errno : 0)
            s.check("through a link", s.at.names("link").contains("f"))
        },
        ConformanceCase("fsync of a directory succeeds") { s in
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("make", s.at.make("d/f"))
            let directory = try s.require("the directory", s.at.open("d", O_RDONLY | O_DIRECTORY).file)
            s.ok("fsync", failure { fsync(directory.raw) })
            s.ok("fdatasync", failure { fdatasync(directory.raw) })
        },
        ConformanceCase("eight threads make and remove their own names without getting in each other's way") { s in
            let at = s.at
            let errors = inParallel(8) { index -> [CInt] in
                var errors: [CInt] = []
                for round in 0..<60 {
                    let (name, other) = ("t\(index)-\(round)", "t\(index)-\(round)-moved")
                    errors += [at.make(name, name), at.rename(name, other)]
                    if at.contents(other) != name { errors.append(EIO) }
                    if round % 2 == 0 { errors.append(at.unlink(other)) }
                }
                return errors.filter { $0 != 0 }
            }
            s.equal("what went wrong", Array(errors.joined()), [])
            s.equal("how many are left", s.at.names().count, 8 * 30)
        },
    ]
}
