import Glibc
import Platform

extension ConformanceCase {
    static let creating: [ConformanceCase] = [
        ConformanceCase("the umask takes bits from the mode of what is created, and from nothing else") { s in
            umask(0o027)
            try s.need("make", s.at.make("f", "", 0o666))
            try s.need("mkdir", s.at.mkdir("d", 0o777))
            if s.has(.nodes) { try s.need("mkfifo", s.at.mknod("p", S_IFIFO | 0o666)) }
            s.equal("the mode of a file", s.at.permissions("f"), 0o640)
            s.equal("the mode of a directory", s.at.permissions("d"), 0o750)
            if s.has(.nodes) { s.equal("the mode of a pipe", s.at.permissions("p"), 0o640) }
            s.ok("chmod", s.at.chmod("f", 0o666))
            s.equal("the mode after chmod", s.at.permissions("f"), 0o666)
            umask(0)
        },
        ConformanceCase("every permission bit is kept as it is given") { s in
            for mode in [0, 0o7, 0o70, 0o700, 0o124, 0o777, 0o1777, 0o4755, 0o2755, 0o6711] as [UInt32] {
                let name = "f\(mode)"
                try s.need("make", s.at.make(name, "", mode))
                s.equal("the mode of a file made with \(String(mode, radix: 8))", s.at.permissions(name), mode)
            }
            try s.need("mkdir", s.at.mkdir("d", 0o1735))
            s.equal("the mode of a directory made with 1735", s.at.permissions("d"), 0o1735)
        },
        ConformanceCase("a new file is empty, has one link, and belongs to its maker") { s in
            try s.need("mkdir", s.at.mkdir("d", 0o777))
            let (at, user) = (s.at, User.alice)
            s.ok("make", user.run { at.make("d/f", "", 0o644) })
            let status = try s.require("the file", s.at.status("d/f"))
            s.equal("the type and mode", status.mode, S_IFREG | 0o644)
            s.equal("the size", status.size, 0)
            s.equal("the blocks", status.blocks, 0)
            s.equal("the links", status.links, 1)
            s.equal("the owner", status.uid, user.uid)
            s.equal("the group", status.gid, user.gid)
        },
        ConformanceCase("a new directory has two links, and its parent one more") { s in
            guard s.has(.directoryLinks) else { return }
            s.equal("links of an empty directory", s.at.links(), 2)
            try s.need("mkdir", s.at.mkdir("a"))
            try s.need("mkdir", s.at.mkdir("b"))
            try s.need("make", s.at.make("f"))
            s.equal("links of the new directory", s.at.links("a"), 2)
            s.equal("links of its parent", s.at.links(), 4)
            s.equal("the inode of a/..", s.at.status("a/..")?.inode, s.at.status()?.inode)
            s.equal("the inode of a/.", s.at.status("a/.")?.inode, s.at.status("a")?.inode)
            s.equal("the type of a directory", s.at.status("a").map { $0.mode & S_IFMT }, S_IFDIR)
        },
        ConformanceCase("creating and removing changes the times of the directory") { s in
            try s.need("mkdir", s.at.mkdir("d"))
            let old = (time(1_000_000), time(1_000_000))
            let changes: [(String, () -> CInt)] = [
                ("make", { s.at.make("d/f") }), ("mkdir", { s.at.mkdir("d/s") }),
                ("symlink", { s.at.symlink("f", "d/l") }),
                ("mknod", { s.at.mknod("d/p", (s.has(.nodes) ? S_IFIFO : S_IFREG) | 0o600) }),
                ("another name", { s.has(.hardLinks) ? s.at.link("d/f", "d/g") : s.at.make("d/g") }),
                ("rename", { s.at.rename("d/g", "d/h") }),
                ("unlink", { s.at.unlink("d/h") }), ("rmdir", { s.at.rmdir("d/s") }),
            ]
            for (what, change) in changes {
                try s.need("utimens", s.at.utimens("d", old))
                s.ok(what, change())
                s.check("\(what) sets the directory's mtime", (s.at.status("d")?.modified.seconds ?? 0) > 1_000_000)
            }
            try s.need("utimens", s.at.utimens("d", old))
            s.expect("unlink of nothing", ENOENT, s.at.unlink("d/none"))
            s.equal("the mtime after a change that failed", s.at.status("d")?.modified.seconds, 1_000_000)
        },
        ConformanceCase("mkdir refuses what exists, what has no parent, and what lies below a file") { s in
            try s.need("make", s.at.make("file"))
            try s.need("symlink", s.at.symlink("none", "dangling"))
            try s.need("mkdir with a slash behind", s.at.mkdir("directory/"))
            for name in ["file", "directory", "dangling", ".", ""] {
                s.expect("mkdir \"\(name)\"", EEXIST, s.at.mkdir(name))
            }
            s.expect("mkdir below nothing", ENOENT, s.at.mkdir("none/x"))
            s.expect("mkdir below a file", ENOTDIR, s.at.mkdir("file/x"))
        },
        ConformanceCase("pipes, sockets and devices are made with their type, mode and number") { s in
            guard s.has(.nodes) else { return }
            let kinds: [(String, mode_t, dev_t)] = [
                ("pipe", S_IFIFO, 0), ("socket", S_IFSOCK, 0), ("character", S_IFCHR, 0x103),
                ("block", S_IFBLK, 0x107), ("large", S_IFCHR, 0x1234_5678),
            ]
            for (name, type, device) in kinds {
                s.ok("mknod of a \(name)", s.at.mknod(name, type | 0o640, device))
                let status = s.at.status(name)
                s.equal("type and mode of a \(name)", status?.mode, type | 0o640)
                s.equal("links of a \(name)", status?.links, 1)
                let number = status.map { UInt64(makeDevice($0.rdevMajor, $0.rdevMinor)) }
                s.equal("device number of a \(name)", number, UInt64(device))
                s.expect("another mknod of a \(name)", EEXIST, s.at.mknod(name, type | 0o600, device))
            }
            s.ok("mknod of a regular file", s.at.mknod("regular", S_IFREG | 0o640))
            s.equal("its type", s.at.status("regular")?.mode, S_IFREG | 0o640)
            s.expect("mknod of a directory", EPERM, s.at.mknod("directory", S_IFDIR | 0o755))
            s.expect("mknod below nothing", ENOENT, s.at.mknod("none/x", S_IFIFO | 0o600))
            s.expect("mknod below a file", ENOTDIR, s.at.mknod("regular/x", S_IFIFO | 0o600))
            let (at, user) = (s.at.below("shared"), User.alice)
            try s.need("mkdir", s.at.mkdir("shared", 0o777))
            s.expect("mknod of a device by a user", EPERM, user.run { at.mknod("c", S_IFCHR | 0o600, 0x103) })
            s.ok("mkfifo by a user", user.run { at.mknod("p", S_IFIFO | 0o600) })
        },
        ConformanceCase("a symbolic link is its target's text, of any length and meaning") { s in
            let targets = ["x", "../up", "/absolute/path", "größe", "a//b/../c", String(repeating: "t", count: 4095)]
            for (index, target) in targets.enumerated() {
                let name = "l\(index)"
                s.ok("symlink to \(target.prefix(20))", s.at.symlink(target, name))
                s.equal("the target of \(name)", s.at.target(name).text, target)
                let status = s.at.status(name)
                s.equal("the size of \(name)", status?.size, UInt64(target.utf8.count))
                s.equal("type and mode of \(name)", status?.mode, S_IFLNK | 0o777)
            }
            s.expect("an empty target", ENOENT, s.at.symlink("", "empty"))
            s.expect("a target of 4096 bytes", ENAMETOOLONG, s.at.symlink(String(repeating: "t", count: 4096), "long"))
            s.expect("a link over a link", EEXIST, s.at.symlink("x", "l0"))
            s.expect("a link below nothing", ENOENT, s.at.symlink("x", "none/l"))
        },
        ConformanceCase("readlink is for links only") { s in
            try s.need("make", s.at.make("f"))
            s.expect("readlink of a file", EINVAL, s.at.target("f").error)
            s.expect("readlink of a directory", EINVAL, s.at.target("").error)
            s.expect("readlink of nothing", ENOENT, s.at.target("none").error)
            s.expect("readlink below a file", ENOTDIR, s.at.target("f/x").error)
        },
        ConformanceCase("links lead to files and directories, relative to where they lie") { s in
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("make", s.at.make("d/f", "inner"))
            try s.need("make", s.at.make("f", "outer"))
            try s.need("symlink", s.at.symlink("f", "d/near"))
            try s.need("symlink", s.at.symlink("../f", "d/far"))
            try s.need("symlink", s.at.symlink("d", "directory"))
            try s.need("symlink", s.at.symlink(s.at.path("d/f"), "absolute"))
            s.equal("a relative link", s.at.contents("d/near"), "inner")
            s.equal("a link upwards", s.at.contents("d/far"), "outer")
            s.equal("through a linked directory", s.at.contents("directory/near"), "inner")
            s.equal("an absolute link", s.at.contents("absolute"), "inner")
            s.ok("make through a linked directory", s.at.make("directory/new", "x"))
            s.check("it is in the directory itself", s.at.exists("d/new"))
            s.equal("stat follows", s.at.status("directory", following: true)?.isDirectory, true)
            s.equal("lstat does not", s.at.status("directory")?.isSymbolicLink, true)
        },
        ConformanceCase("a hard link is another name of the same file") { s in
            guard s.has(.hardLinks) else { return }
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("make", s.at.make("a", "abc"))
            try s.need("link", s.at.link("a", "d/b"))
            let (first, second) = (s.at.status("a"), s.at.status("d/b"))
            s.equal("the inode", second?.inode, first?.inode)
            s.equal("the links", first?.links, 2)
            s.equal("the links by the new name", second?.links, 2)
            let file = s.at.open("d/b", O_RDWR).file
            s.ok("a write by the new name", file?.put("xyz!", at: 0) ?? EBADF)
            s.equal("the bytes by the old name", s.at.contents("a"), "xyz!")
            s.ok("chmod by one name", s.at.chmod("a", 0o600))
            s.equal("the mode by the other", s.at.permissions("d/b"), 0o600)
            s.ok("unlink of the first name", s.at.unlink("a"))
            s.equal("the links then", s.at.links("d/b"), 1)
            s.equal("the bytes then", s.at.contents("d/b"), "xyz!")
        },
        ConformanceCase("link refuses directories, names that exist, and what is not there") { s in
            try s.need("make", s.at.make("f"))
            try s.need("make", s.at.make("g"))
            try s.need("mkdir", s.at.mkdir("d"))
            s.expect("a link to a directory", EPERM, s.at.link("d", "x"))
            s.expect("over a file", EEXIST, s.at.link("f", "g"))
            s.expect("over a directory", EEXIST, s.at.link("f", "d"))
            s.expect("of nothing", ENOENT, s.at.link("none", "x"))
            s.expect("below nothing", ENOENT, s.at.link("f", "none/x"))
            s.expect("below a file", ENOTDIR, s.at.link("f", "g/x"))
        },
        ConformanceCase("a hard link to a symbolic link, a pipe or a socket is one to the thing itself") { s in
            guard s.has(.hardLinks) else { return }
            try s.need("make", s.at.make("f"))
            try s.need("symlink", s.at.symlink("f", "link"))
            s.ok("link of a symbolic link", s.at.link("link", "second"))
            s.equal("it is a symbolic link too", s.at.status("second")?.isSymbolicLink, true)
            s.equal("links of the file", s.at.links("f"), 1)
            try s.need("mkfifo", s.at.mknod("pipe", S_IFIFO | 0o600))
            s.ok("link of a pipe", s.at.link("pipe", "pipe2"))
            s.equal("links of the pipe", s.at.links("pipe2"), 2)
        },
    ]
}

/// makedev(3), which is a macro.
private func makeDevice(_ major: UInt32, _ minor: UInt32) -> UInt64 {
    let (major, minor) = (UInt64(major), UInt64(minor))
    return (major & 0xfff) << 8 | (major >> 12) << 44 | (minor & 0xff) | (minor >> 8) << 20
}
