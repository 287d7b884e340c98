import Glibc
import Platform

extension ConformanceCase {
    static let owning: [ConformanceCase] = [
        ConformanceCase("chmod sets every bit, of files and directories, through links, and touches no mtime") { s in
            try s.need("make", s.at.make("f"))
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("symlink", s.at.symlink("f", "link"))
            for mode in [0, 0o1, 0o20, 0o444, 0o777, 0o1777, 0o2770, 0o4755, 0o7777] as [UInt32] {
                s.ok("chmod of a file to \(String(mode, radix: 8))", s.at.chmod("f", mode))
                s.equal("the mode of a file", s.at.permissions("f"), mode)
                s.ok("chmod of a directory to \(String(mode, radix: 8))", s.at.chmod("d", mode))
                s.equal("the mode of a directory", s.at.permissions("d"), mode)
            }
            try s.need("utimens", s.at.utimens("f", (time(1000), time(2000))))
            let before = s.at.status("f")
            try waitForNextTick(s)
            s.ok("chmod through a link", s.at.chmod("link", 0o640))
            s.equal("the mode of its target", s.at.permissions("f"), 0o640)
            s.equal("the mtime", s.at.status("f")?.modified.seconds, 2000)
            s.check("the ctime is later", before.map { $0.changed < (s.at.status("f")?.changed ?? $0.changed) } == true)
            let file = s.at.open("f", O_RDONLY).file
            s.ok("fchmod of a reader", failure { fchmod(file?.raw ?? -1, 0o604) })
            s.equal("the mode after fchmod", s.at.permissions("f"), 0o604)
        },
        ConformanceCase("chmod refuses what is not there") { s in
            try s.need("make", s.at.make("f"))
            try s.need("symlink", s.at.symlink("none", "dangling"))
            s.expect("nothing", ENOENT, s.at.chmod("none", 0o600))
            s.expect("a dangling link", ENOENT, s.at.chmod("dangling", 0o600))
            s.expect("below a file", ENOTDIR, s.at.chmod("f/x", 0o600))
        },
        ConformanceCase("only the owner changes the mode, and gives no set-group-ID for a foreign group") { s in
            try s.need("make", s.at.make("f", "", 0o644))
            try s.need("chown", s.at.chown("f", 61001, 62002))
            let at = s.at
            s.expect("chmod by another user", EPERM, User.bob.run { at.chmod("f", 0o666) })
            s.ok("chmod by the owner", User.alice.run { at.chmod("f", 0o2755) })
            s.equal("set-group-ID of a group that is not the owner's", s.at.permissions("f"), 0o755)
            s.ok("chmod by the owner in the group", User.aliceOfBobs.run { at.chmod("f", 0o2755) })
            s.equal("set-group-ID of a group that is the owner's", s.at.permissions("f"), 0o2755)
            s.ok("chmod by root", s.at.chmod("f", 0o6755))
            s.equal("both bits by root", s.at.permissions("f"), 0o6755)
        },
        ConformanceCase("chown gives files, directories and links to others; -1 leaves an id") { s in
            try s.need("make", s.at.make("f"))
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("symlink", s.at.symlink("f", "link"))
            for name in ["f", "d"] {
                s.ok("chown of \(name)", s.at.chown(name, 61001, 62001))
                s.ok("the group alone of \(name)", s.at.chown(name, .max, 62009))
                s.ok("the owner alone of \(name)", s.at.chown(name, 61009))
                s.ok("nothing of \(name)", s.at.chown(name))
                s.equal("the owner of \(name)", s.at.status(name)?.uid, 61009)
                s.equal("the group of \(name)", s.at.status(name)?.gid, 62009)
            }
            s.ok("chown through a link", s.at.chown("link", 61002, 62002))
            s.equal("the owner of its target", s.at.status("f")?.uid, 61002)
            s.equal("the owner of the link", s.at.status("link")?.uid, 0)
            s.ok("lchown", s.at.lchown("link", 61003, 62003))
            s.equal("the owner of the link then", s.at.status("link")?.uid, 61003)
            s.equal("the owner of its target then", s.at.status("f")?.uid, 61002)
            let file = s.at.open("f", O_RDONLY).file
            s.ok("fchown", failure { fchown(file?.raw ?? -1, 61004, 62004) })
            s.equal("the group after fchown", s.at.status("f")?.gid, 62004)
            s.ok("the largest ids", s.at.chown("f", 4_294_967_294, 4_294_967_294))
            s.equal("the owner with the largest id", s.at.status("f")?.uid, 4_294_967_294)
        },
        ConformanceCase("chown refuses what is not there") { s in
            try s.need("make", s.at.make("f"))
            try s.need("symlink", s.at.symlink("none", "dangling"))
            s.expect("nothing", ENOENT, s.at.chown("none", 1, 1))
            s.expect("a dangling link", ENOENT, s.at.chown("dangling", 1, 1))
            s.ok("lchown of a dangling link", s.at.lchown("dangling", 1, 1))
            s.expect("below a file", ENOTDIR, s.at.chown("f/x", 1, 1))
        },
        ConformanceCase("users give their files to groups of theirs only, and to nobody") { s in
            try s.need("make", s.at.make("f"))
            try s.need("chown", s.at.chown("f", 61001, 62001))
            let at = s.at
            s.expect("to another user", EPERM, User.alice.run { at.chown("f", 61002) })
            s.expect("to a foreign group", EPERM, User.alice.run { at.chown("f", .max, 62002) })
            s.expect("the group of a foreign file", EPERM, User.bob.run { at.chown("f", .max, 62002) })
            s.ok("to an own group", User.aliceOfBobs.run { at.chown("f", .max, 62002) })
            s.equal("the group", s.at.status("f")?.gid, 62002)
            s.ok("to oneself", User.alice.run { at.chown("f", 61001) })
        },
        ConformanceCase("chown takes set-ID bits from programs, and from no directory") { s in
            for (name, isByRoot) in [("by root", true), ("by its owner", false)] {
                try s.need("make", s.at.make(name))
                try s.need("chown", s.at.chown(name, 61001, 62001))
                try s.need("chmod", s.at.chmod(name, 0o6755))
                let at = s.at
                s.ok(
                    "chown \(name)",
                    isByRoot ? at.chown(name, 61002, 62002) : User.aliceOfBobs.run { at.chown(name, .max, 62002) })
                s.equal("the mode after chown \(name)", s.at.permissions(name), 0o755)
            }
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("chmod", s.at.chmod("d", 0o6755))
            s.ok("chown of a directory", s.at.chown("d", 61001, 62001))
            s.equal("the mode of the directory", s.at.permissions("d"), 0o6755)
        },
        ConformanceCase("writing and truncating by users takes set-ID bits; by root it does not") { s in
            let at = s.at
            let changes: [(String, @Sendable (String) -> CInt)] = [
                ("a write", { name in at.open(name, O_WRONLY).file?.put("x", at: 0) ?? EACCES }),
                ("truncate", { name in at.truncate(name, 1) }),
            ]
            for (what, change) in changes {
                for (user, wanted) in [(true, 0o777), (false, 0o6777)] as [(Bool, UInt32)] {
                    let name = "\(what) \(user)"
                    try s.need("make", s.at.make(name, "bytes"))
                    try s.need("chown", s.at.chown(name, 61001, 62001))
                    try s.need("chmod", s.at.chmod(name, 0o6777))
                    s.ok("\(what) by \(user ? "a user" : "root")", user ? User.bob.run { change(name) } : change(name))
                    s.equal("the mode after \(what) by \(user ? "a user" : "root")", s.at.permissions(name), wanted)
                }
            }
        },
        ConformanceCase("a set-group-ID directory gives its group to what is made in it") { s in
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("chown", s.at.chown("d", 0, 62009))
            try s.need("chmod", s.at.chmod("d", 0o2777))
            let (at, user) = (s.at, User.alice)
            s.ok("make", user.run { at.make("d/f", "", 0o644) })
            s.ok("mkdir", user.run { at.mkdir("d/s", 0o755) })
            s.ok("symlink", user.run { at.symlink("f", "d/l") })
            if s.has(.nodes) { s.ok("mkfifo", user.run { at.mknod("d/p", S_IFIFO | 0o600) }) }
            for name in ["f", "s", "l", "p"] where name != "p" || s.has(.nodes) {
                s.equal("the group of d/\(name)", s.at.status("d/\(name)")?.gid, 62009)
                s.equal("the owner of d/\(name)", s.at.status("d/\(name)")?.uid, user.uid)
            }
            s.equal("the mode of the directory made in it", s.at.permissions("d/s"), 0o2755)
            s.ok("a program with set-group-ID", user.run { at.make("d/program", "", 0o2755) })
            s.equal("its mode", s.at.permissions("d/program"), 0o755)
        },
    ]

    static let timing: [ConformanceCase] = [
        ConformanceCase("utimensat sets times to the nanosecond") { s in
            try s.need("make", s.at.make("f"))
            try s.need("mkdir", s.at.mkdir("d"))
            for name in ["f", "d"] {
                s.ok(
                    "utimensat of \(name)",
                    s.at.utimens(name, (time(1_111_111_111, 123_456_789), time(2_000_000_000, 999_999_999))))
                s.equal(
                    "the atime of \(name)", s.at.status(name)?.accessed,
                    FileTime(seconds: 1_111_111_111, nanoseconds: 123_456_789))
                s.equal(
                    "the mtime of \(name)", s.at.status(name)?.modified,
                    FileTime(seconds: 2_000_000_000, nanoseconds: 999_999_999))
            }
            s.ok("before 1970", s.at.utimens("f", (time(-100), time(-86_400, 5))))
            s.equal("an mtime before 1970", s.at.status("f")?.modified, FileTime(seconds: -86_400, nanoseconds: 5))
            s.ok("after 2038", s.at.utimens("f", (time(1), time(4_200_000_000))))
            s.equal("an mtime after 2038", s.at.status("f")?.modified.seconds, 4_200_000_000)
            s.ok("in 1970", s.at.utimens("f", (time(0), time(0))))
            s.equal("an mtime of 0", s.at.status("f")?.modified, FileTime(seconds: 0))
        },
        ConformanceCase("UTIME_NOW and UTIME_OMIT set one time to the present or not at all") { s in
            try s.need("make", s.at.make("f"))
            let old = FileTime(seconds: 1_000_000)
            func reset() throws { try s.need("utimens", s.at.utimens("f", (time(1_000_000), time(1_000_000)))) }
            try reset()
            s.ok("mtime now", s.at.utimens("f", (timeOmitted, timeNow)))
            s.equal("the atime, omitted", s.at.status("f")?.accessed, old)
            s.check("the mtime is the present", isPresent(s.at.status("f")?.modified))
            try reset()
            s.ok("atime now", s.at.utimens("f", (timeNow, timeOmitted)))
            s.check("the atime is the present", isPresent(s.at.status("f")?.accessed))
            s.equal("the mtime, omitted", s.at.status("f")?.modified, old)
            try reset()
            s.ok("both omitted", s.at.utimens("f", (timeOmitted, timeOmitted)))
            s.equal("the mtime, both omitted", s.at.status("f")?.modified, old)
            s.ok("no times", s.at.utimens("f", nil))
            s.check(
                "both are the present", isPresent(s.at.status("f")?.modified) && isPresent(s.at.status("f")?.accessed))
            let file = s.at.open("f", O_RDONLY).file
            var times = [time(5), time(6)]
            s.ok("futimens of a reader", failure { futimens(file?.raw ?? -1, &times) })
            s.equal("the mtime after futimens", s.at.status("f")?.modified.seconds, 6)
        },
        ConformanceCase("the times of a link are its own") { s in
            try s.need("make", s.at.make("f"))
            try s.need("symlink", s.at.symlink("f", "link"))
            try s.need("utimens", s.at.utimens("f", (time(100), time(200))))
            s.ok(
                "utimensat of the link itself",
                s.at.utimens("link", (time(300), time(400, 7)), flags: AT_SYMLINK_NOFOLLOW))
            s.equal("its mtime", s.at.status("link")?.modified, FileTime(seconds: 400, nanoseconds: 7))
            s.equal("the mtime of its target", s.at.status("f")?.modified.seconds, 200)
            s.ok("utimensat through the link", s.at.utimens("link", (time(500), time(600))))
            s.equal("the mtime of its target then", s.at.status("f")?.modified.seconds, 600)
            s.equal("the mtime of the link then", s.at.status("link")?.modified.seconds, 400)
        },
        ConformanceCase("utimensat refuses wrong nanoseconds, what is not there, and who may not") { s in
            try s.need("make", s.at.make("f", "", 0o666))
            let at = s.at
            s.expect("a nanosecond too many", EINVAL, s.at.utimens("f", (time(1, 1_000_000_000), time(1))))
            s.expect("nothing", ENOENT, s.at.utimens("none", nil))
            s.expect("below a file", ENOTDIR, s.at.utimens("f/x", nil))
            s.expect("given times by another user", EPERM, User.alice.run { at.utimens("f", (time(1), time(2))) })
            s.expect("one time now by another user", EPERM, User.alice.run { at.utimens("f", (timeNow, timeOmitted)) })
            s.ok("the present by a user who may write", User.alice.run { at.utimens("f", nil) })
            s.ok("nothing by another user", User.alice.run { at.utimens("f", (timeOmitted, timeOmitted)) })
            try s.need("chmod", s.at.chmod("f", 0o644))
            s.expect("the present by a user who may not write", EACCES, User.alice.run { at.utimens("f", nil) })
        },
        ConformanceCase("writing sets mtime and ctime, reading neither") { s in
            let file = try s.require("a file", s.at.open("f", O_RDWR | O_CREAT).file)
            try s.need("utimens", s.at.utimens("f", (time(1000), time(1000))))
            let changed = try s.require("its ctime", s.at.status("f")).changed
            try waitForNextTick(s)
            _ = file.text()
            s.equal("the mtime after reading", s.at.status("f")?.modified.seconds, 1000)
            s.equal("the ctime after reading", s.at.status("f")?.changed, changed)
            s.ok("a write", file.put("x", at: 0))
            let after = try s.require("the status", s.at.status("f"))
            s.check("the mtime is the present", isPresent(after.modified))
            s.check("the ctime is later", changed < after.changed)
        },
        ConformanceCase("times that were set stay when a written file is closed") { s in
            let file = Lock(s.at.open("f", O_RDWR | O_CREAT).file)
            s.ok("a write", file.withLock { $0 }?.put("bytes", at: 0) ?? EBADF)
            var times = [time(1000), time(2000, 3)]
            s.ok("futimens", failure { futimens(file.withLock { $0 }?.raw ?? -1, &times) })
            file.withLock { $0 = nil }
            s.equal("the mtime after closing", s.at.status("f")?.modified, FileTime(seconds: 2000, nanoseconds: 3))
        },
    ]
}

private func isPresent(_ time: FileTime?) -> Bool {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    // The clock of the file system lags some milliseconds behind, that of a store perhaps seconds.
    return time.map { abs(Int64(now.tv_sec) - $0.seconds) <= 60 } ?? false
}
