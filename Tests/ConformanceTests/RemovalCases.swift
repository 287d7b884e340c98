import Glibc
import Platform

extension ConformanceCase {
    static let removing: [ConformanceCase] = [
        ConformanceCase("unlink removes a name of any kind but a directory") { s in
            try s.need("make", s.at.make("file"))
            try s.need("symlink", s.at.symlink("kept", "link"))
            try s.need("make", s.at.make("kept"))
            if s.has(.nodes) { try s.need("mkfifo", s.at.mknod("pipe", S_IFIFO | 0o600)) }
            try s.need("mkdir", s.at.mkdir("directory"))
            for name in ["file", "link", "pipe"] where name != "pipe" || s.has(.nodes) {
                s.ok("unlink of a \(name)", s.at.unlink(name))
                s.expect("stat of the removed \(name)", ENOENT, s.at.statusError(name, following: false))
            }
            s.expect("unlink of a directory", EISDIR, s.at.unlink("directory"))
            s.equal("what is left", Set(s.at.names()), ["kept", "directory"])
        },
        ConformanceCase("unlink of what is not there, or not there as a directory") { s in
            try s.need("make", s.at.make("f"))
            try s.need("symlink", s.at.symlink("f", "link"))
            s.expect("a missing name", ENOENT, s.at.unlink("none"))
            s.expect("below nothing", ENOENT, s.at.unlink("none/x"))
            s.expect("below a file", ENOTDIR, s.at.unlink("f/x"))
            s.expect("a file with a slash behind", ENOTDIR, s.at.unlink("f/"))
            s.check("the file is still there", s.at.exists("f"))
        },
        ConformanceCase("a file that is unlinked while it is open goes on") { s in
            let file = try s.require("a new file", s.at.open("f", O_RDWR | O_CREAT | O_EXCL).file)
            s.ok("a write before", file.put("before", at: 0))
            s.ok("unlink", s.at.unlink("f"))
            s.equal("its links", (try? file.status())?.links, 0)
            s.equal("its bytes", file.text(), "before")
            s.ok("a write after", file.put("after!", at: 6))
            s.equal("its bytes after", file.text(), "beforeafter!")
            s.ok("ftruncate", file.truncate(3))
            s.equal("its size after ftruncate", file.size, 3)
            s.ok("fchmod", failure { fchmod(file.raw, 0o600) })
            s.equal("its mode", (try? file.status()).map { $0.mode & 0o7777 }, 0o600)
            s.ok("fsync", failure { fsync(file.raw) })
            try s.need("a new file of the name", s.at.make("f", "other"))
            s.equal("the bytes of the old one", file.text(), "bef")
            s.equal("the bytes of the new one", s.at.contents("f"), "other")
        },
        ConformanceCase("a removed file that is open is not found by its directory") { s in
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("make", s.at.make("d/f", "bytes"))
            let file = try s.require("the file", s.at.open("d/f", O_RDWR).file)
            s.ok("unlink", s.at.unlink("d/f"))
            s.equal("names in the directory", s.at.names("d"), [])
            s.ok("rmdir of the directory", s.at.rmdir("d"))
            s.equal("its bytes", file.text(), "bytes")
            s.ok("a write", file.put("B", at: 0))
            s.equal("its bytes then", file.text(), "Bytes")
        },
        ConformanceCase("removing one of two names changes the ctime and the count of the other") { s in
            guard s.has(.hardLinks) else { return }
            try s.need("make", s.at.make("a"))
            try s.need("link", s.at.link("a", "b"))
            let before = s.at.status("b")?.changed
            try waitForNextTick(s)
            s.ok("unlink", s.at.unlink("a"))
            s.equal("the links", s.at.links("b"), 1)
            s.check("the ctime is later", before.map { $0 < (s.at.status("b")?.changed ?? $0) } == true)
        },
        ConformanceCase("rmdir removes empty directories only") { s in
            try s.need("mkdir", s.at.mkdir("empty"))
            try s.need("mkdir", s.at.mkdir("full"))
            try s.need("make", s.at.make("full/f"))
            try s.need("make", s.at.make("file"))
            try s.need("symlink", s.at.symlink("empty", "link"))
            s.expect("a full directory", ENOTEMPTY, s.at.rmdir("full"))
            s.expect("a file", ENOTDIR, s.at.rmdir("file"))
            s.expect("a link to a directory", ENOTDIR, s.at.rmdir("link"))
            s.expect("nothing", ENOENT, s.at.rmdir("none"))
            s.expect("below a file", ENOTDIR, s.at.rmdir("file/x"))
            s.expect("\".\"", EINVAL, s.at.rmdir("empty/."))
            s.expect("\"..\"", ENOTEMPTY, s.at.rmdir("empty/.."))
            if s.has(.directoryLinks) { s.equal("links of the parent before", s.at.links(), 4) }
            s.ok("an empty directory", s.at.rmdir("empty"))
            if s.has(.directoryLinks) { s.equal("links of the parent after", s.at.links(), 3) }
            s.ok("unlink of what was in the full one", s.at.unlink("full/f"))
            s.ok("rmdir with a slash behind", s.at.rmdir("full/"))
        },
        ConformanceCase("a directory that is removed while it is open or somebody's own holds nothing any more") { s in
            try s.need("mkdir", s.at.mkdir("d"))
            let directory = try s.require("the directory", s.at.open("d", O_RDONLY | O_DIRECTORY).file)
            try s.need("chdir", s.at.chdir("d"))
            s.ok("rmdir", s.at.rmdir("d"))
            s.expect("make in it", ENOENT, failure { Glibc.mkdir("x", 0o755) })
            s.expect(
                "a look into it", ENOENT,
                failure {
                    var raw = stat(); return lstat("x", &raw)
                })
            s.equal("its links", (try? directory.status())?.links, 0)
            _ = Glibc.chdir("/")
        },
        ConformanceCase("a tree of directories is made, filled, and removed to the last") { s in
            var names = ["t"]
            for depth in 0..<6 { names.append(names[depth] + "/d\(depth)") }
            for name in names {
                try s.need("mkdir", s.at.mkdir(name))
                for index in 0..<5 { try s.need("make", s.at.make("\(name)/f\(index)", "\(index)")) }
            }
            for name in names.reversed() {
                s.expect("rmdir of a full directory", ENOTEMPTY, s.at.rmdir(name))
                for index in 0..<5 { s.ok("unlink", s.at.unlink("\(name)/f\(index)")) }
                s.ok("rmdir", s.at.rmdir(name))
            }
            s.equal("what is left", s.at.names(), [])
        },
    ]
}

/// Waits until a file system's clock, which moves some milliseconds at a time, shows another time.
func waitForNextTick(_ s: Scene) throws {
    try s.need("make a clock", s.at.make(".clock"))
    defer { _ = s.at.unlink(".clock") }
    let first = s.at.status(".clock")?.changed
    for _ in 0..<2000 {
        usleep(1000)
        try s.need("touch the clock", s.at.chmod(".clock", 0o600))
        if s.at.status(".clock")?.changed != first { return }
    }
    s.fail("the file system's clock stands still")
    throw CaseEnded()
}
