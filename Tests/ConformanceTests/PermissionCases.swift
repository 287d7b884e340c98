import Glibc
import Platform

extension ConformanceCase {
    static let permitting: [ConformanceCase] = [
        ConformanceCase("owner, group and others each have their own bits, and nobody has another's") { s in
            let users: [(String, User, Int)] = [
                ("owner", User(uid: 61001, gid: 62009), 6), ("group", User(uid: 61002, gid: 62001), 3),
                ("group besides", User(uid: 61002, gid: 62002, groups: [62001]), 3), ("others", .bob, 0),
            ]
            try s.need("make", s.at.make("f", "bytes"))
            try s.need("chown", s.at.chown("f", 61001, 62001))
            let at = s.at
            for mode in [0o000, 0o400, 0o200, 0o600, 0o040, 0o020, 0o004, 0o002, 0o066, 0o606, 0o660, 0o666, 0o077]
                as [UInt32]
            {
                try s.need("chmod", s.at.chmod("f", mode))
                for (name, user, shift) in users {
                    let bits = mode >> UInt32(shift)
                    let what = "\(String(mode, radix: 8)) for \(name)"
                    s.expect("reading \(what)", bits & 4 != 0 ? 0 : EACCES, user.run { at.openError("f", O_RDONLY) })
                    s.expect("writing \(what)", bits & 2 != 0 ? 0 : EACCES, user.run { at.openError("f", O_WRONLY) })
                    s.expect("access R_OK \(what)", bits & 4 != 0 ? 0 : EACCES, user.run { at.access("f", R_OK) })
                    s.expect("access W_OK \(what)", bits & 2 != 0 ? 0 : EACCES, user.run { at.access("f", W_OK) })
                    s.expect("access X_OK \(what)", bits & 1 != 0 ? 0 : EACCES, user.run { at.access("f", X_OK) })
                }
                s.ok("reading and writing \(String(mode, radix: 8)) for root", s.at.openError("f", O_RDWR))
                s.expect(
                    "access X_OK \(String(mode, radix: 8)) for root", mode & 0o111 != 0 ? 0 : EACCES,
                    s.at.access("f", X_OK))
            }
        },
        ConformanceCase("access tells what is there") { s in
            try s.need("make", s.at.make("f"))
            try s.need("symlink", s.at.symlink("none", "dangling"))
            s.ok("a file", s.at.access("f", F_OK))
            s.expect("nothing", ENOENT, s.at.access("none", F_OK))
            s.expect("a dangling link", ENOENT, s.at.access("dangling", F_OK))
            s.expect("below a file", ENOTDIR, s.at.access("f/x", F_OK))
        },
        ConformanceCase("a directory without x hides what is in it, and one without r its names") { s in
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("make", s.at.make("d/f", "bytes", 0o666))
            try s.need("chmod", s.at.chmod("d", 0o766))
            let (at, user) = (s.at, User.alice)
            let calls: [(String, @Sendable () -> CInt)] = [
                ("open", { at.openError("d/f", O_RDONLY) }), ("stat", { at.statusError("d/f") }),
                ("chmod", { at.chmod("d/f", 0o600) }), ("truncate", { at.truncate("d/f", 0) }),
                ("make", { at.make("d/new") }), ("mkdir", { at.mkdir("d/new") }), ("unlink", { at.unlink("d/f") }),
                ("rename", { at.rename("d/f", "d/g") }), ("link", { at.link("d/f", "d/g") }),
                ("symlink", { at.symlink("x", "d/g") }), ("readlink", { at.target("d/f").error }),
                ("utimens", { at.utimens("d/f", nil) }), ("access", { at.access("d/f", F_OK) }),
            ]
            for (what, call) in calls { s.expect("\(what) in a directory without x", EACCES, user.run(call)) }
            try s.need("chmod", s.at.chmod("d", 0o711))
            s.expect("opening a directory without r", EACCES, user.run { at.openError("d", O_RDONLY) })
            s.ok("opening a known name in it", user.run { at.openError("d/f", O_RDWR) })
        },
        ConformanceCase("only who may write a directory changes its names, whoever owns the files") { s in
            try s.need("mkdir", s.at.mkdir("closed", 0o755))
            try s.need("mkdir", s.at.mkdir("open", 0o777))
            try s.need("chmod", s.at.chmod("open", 0o777))
            for directory in ["closed", "open"] {
                try s.need("make", s.at.make("\(directory)/alices"))
                try s.need("chown", s.at.chown("\(directory)/alices", 61001, 62001))
            }
            let at = s.at
            s.expect("make", EACCES, User.alice.run { at.make("closed/x") })
            s.expect("unlink of an own file", EACCES, User.alice.run { at.unlink("closed/alices") })
            s.expect("rename of an own file", EACCES, User.alice.run { at.rename("closed/alices", "open/y") })
            s.expect("rename into it", EACCES, User.alice.run { at.rename("open/alices", "closed/y") })
            s.expect("symlink", EACCES, User.alice.run { at.symlink("x", "closed/l") })
            s.expect("link", EACCES, User.alice.run { at.link("open/alices", "closed/l") })
            s.expect("rmdir", EACCES, User.alice.run { at.rmdir("closed") })
            s.ok("rename of a foreign file in an open directory", User.bob.run { at.rename("open/alices", "open/y") })
            s.ok("unlink of a foreign file in an open directory", User.bob.run { at.unlink("open/y") })
        },
        ConformanceCase("in a sticky directory only owners remove, rename and replace") { s in
            try s.need("mkdir", s.at.mkdir("sticky"))
            try s.need("chmod", s.at.chmod("sticky", 0o1777))
            let at = s.at
            func prepare() throws {
                for (name, user) in [("alices", User.alice), ("bobs", .bob)] where !s.at.exists("sticky/\(name)") {
                    try s.need("make \(name)", user.run { at.make("sticky/\(name)", "", 0o666) })
                }
            }
            try prepare()
            s.expect("unlink of a foreign file", EPERM, User.bob.run { at.unlink("sticky/alices") })
            s.expect("rename of a foreign file", EPERM, User.bob.run { at.rename("sticky/alices", "sticky/x") })
            s.expect("rename over a foreign file", EPERM, User.bob.run { at.rename("sticky/bobs", "sticky/alices") })
            s.ok("mkdir", User.alice.run { at.mkdir("sticky/d", 0o777) })
            s.expect("rmdir of a foreign directory", EPERM, User.bob.run { at.rmdir("sticky/d") })
            s.ok("writing a foreign file", User.bob.run { at.truncate("sticky/alices", 5) })
            s.ok("rename of an own file", User.bob.run { at.rename("sticky/bobs", "sticky/b") })
            s.ok("unlink of an own file", User.alice.run { at.unlink("sticky/alices") })
            try prepare()
            try s.need("chown", s.at.chown("sticky", 61002, 62002))
            s.ok("unlink of a foreign file by the directory's owner", User.bob.run { at.unlink("sticky/alices") })
            try prepare()
            s.ok("unlink by root", s.at.unlink("sticky/alices"))
        },
        ConformanceCase("a directory that is moved elsewhere must be writable itself") { s in
            for name in ["a", "b"] {
                try s.need("mkdir", s.at.mkdir(name))
                try s.need("chmod", s.at.chmod(name, 0o777))
            }
            try s.need("mkdir", s.at.mkdir("a/d"))
            let at = s.at
            s.expect("to another directory", EACCES, User.alice.run { at.rename("a/d", "b/d") })
            s.ok("within the same", User.alice.run { at.rename("a/d", "a/e") })
            try s.need("chmod", s.at.chmod("a/e", 0o777))
            s.ok("when it is writable", User.alice.run { at.rename("a/e", "b/e") })
        },
        ConformanceCase("what is open stays open when the mode is taken away") { s in
            try s.need("make", s.at.make("f", "bytes", 0o666))
            let at = s.at
            let (opened, closed) = (OneShot<Bool>(), OneShot<Bool>())
            let results = inBackground {
                User.alice.run { () -> [CInt] in
                    let file = at.open("f", O_RDWR).file
                    opened.set(true)
                    waitFor(closed)
                    guard let file else { return [EACCES, EACCES, EACCES, 0] }
                    return [
                        file.text() == "bytes" ? 0 : EIO, file.put("BYTES!", at: 0), file.truncate(3),
                        at.openError("f", O_RDONLY),
                    ]
                }
            }
            waitFor(opened)
            let chmod = s.at.chmod("f", 0)
            closed.set(true)
            let found = results()
            s.ok("chmod", chmod)
            s.ok("a read", found[0])
            s.ok("a write", found[1])
            s.ok("ftruncate", found[2])
            s.expect("opening it again", EACCES, found[3])
            s.equal("the size", s.at.status("f")?.size, 3)
        },
    ]

    static let refusing: [ConformanceCase] = [
        ConformanceCase("a read-only mount is read, and every change is EROFS") { s in
            let at = s.readOnly
            if s.target == .ext4 {
                try s.need("a mount namespace", ThreadState.becomeOwnMounts())
                try s.need("a read-only mount", ThreadState.mountReadOnly(at.root))
            }
            s.equal("reading a file", at.contents("file"), "bytes")
            s.equal("its size", at.status("file")?.size, 5)
            s.check("reading the directory", at.names().contains("file"))
            let changes: [(String, CInt)] = [
                ("open to write", at.openError("file", O_WRONLY)),
                ("open with O_TRUNC", at.openError("file", O_RDONLY | O_TRUNC)),
                ("make", at.make("new")), ("mkdir", at.mkdir("new")), ("mknod", at.mknod("new", S_IFIFO | 0o600)),
                ("symlink", at.symlink("x", "new")), ("link", at.link("file", "new")), ("unlink", at.unlink("file")),
                ("rmdir", at.rmdir("directory")), ("rename", at.rename("file", "new")),
                ("chmod", at.chmod("file", 0o600)),
                ("chown", at.chown("file", 1, 1)), ("truncate", at.truncate("file", 0)),
                ("utimens", at.utimens("file", nil)), ("access W_OK", at.access("file", W_OK)),
            ]
            for (what, error) in changes { s.expect(what, EROFS, error) }
            s.expect("O_EXCL on what exists", EEXIST, at.openError("file", O_RDWR | O_CREAT | O_EXCL))
            s.expect("mkdir of what exists", EEXIST, at.mkdir("directory"))
            s.ok("open to read with O_CREAT of what exists", at.openError("file", O_RDONLY | O_CREAT))
        }
    ]
}
