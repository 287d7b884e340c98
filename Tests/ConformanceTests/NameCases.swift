import CLinux
import Glibc
import Platform
import SystemPackage

extension ConformanceCase {
    static let naming: [ConformanceCase] = [
        ConformanceCase("a name has up to 255 bytes; one more is ENAMETOOLONG whatever the call") { s in
            let (longest, over) = (String(repeating: "n", count: 255), String(repeating: "n", count: 256))
            try s.need("make", s.at.make("f", "x"))
            s.ok("make with 255 bytes", s.at.make(longest, "bytes"))
            s.equal("reading it", s.at.contents(longest), "bytes")
            s.check("it is listed", s.at.names().contains(longest))
            s.ok("unlink with 255 bytes", s.at.unlink(longest))
            s.ok("mkdir with 255 bytes", s.at.mkdir(longest))
            s.ok("rmdir with 255 bytes", s.at.rmdir(longest))
            s.ok("symlink with 255 bytes", s.at.symlink("x", longest))
            s.ok("rename with 255 bytes", s.at.rename(longest, String(repeating: "m", count: 255)))
            let wide = String(repeating: "ä", count: 127) + "x"
            s.ok("make with 255 bytes of UTF-8", s.at.make(wide))
            s.expect("make with 256 bytes of UTF-8", ENAMETOOLONG, s.at.make(String(repeating: "ä", count: 128)))
            let calls: [(String, CInt)] = [
                ("open", s.at.openError(over, O_RDONLY)), ("make", s.at.make(over)), ("mkdir", s.at.mkdir(over)),
                ("mknod", s.at.mknod(over, S_IFIFO | 0o600)), ("symlink", s.at.symlink("x", over)),
                ("link", s.at.link("f", over)), ("link of it", s.at.link(over, "g")), ("unlink", s.at.unlink(over)),
                ("rmdir", s.at.rmdir(over)), ("rename", s.at.rename("f", over)),
                ("rename of it", s.at.rename(over, "g")),
                ("stat", s.at.statusError(over)), ("lstat", s.at.statusError(over, following: false)),
                ("chmod", s.at.chmod(over, 0o600)), ("chown", s.at.chown(over, 1, 1)),
                ("truncate", s.at.truncate(over, 0)),
                ("utimens", s.at.utimens(over, nil)), ("access", s.at.access(over, F_OK)),
                ("readlink", s.at.target(over).error), ("a name below it", s.at.make(over + "/x")),
            ]
            for (what, error) in calls { s.expect("\(what) with 256 bytes", ENAMETOOLONG, error) }
        },
        ConformanceCase("a path has up to 4095 bytes, and what lies deeper is reached step by step") { s in
            guard s.has(.longPaths) else { return }
            let part = String(repeating: "p", count: 200)
            var path = s.at.root
            try s.need("chdir", s.at.chdir())
            defer { _ = Glibc.chdir("/") }
            var depth = 0
            while depth < 30 {
                try s.need("mkdir at depth \(depth)", failure { Glibc.mkdir(part, 0o755) })
                try s.need("chdir to depth \(depth)", failure { Glibc.chdir(part) })
                path += "/\(part)"
                depth += 1
            }
            s.expect("stat of a path of \(path.utf8.count) bytes", ENAMETOOLONG, failure { Glibc.access(path, F_OK) })
            let file = larder_open("f", O_RDWR | O_CREAT, 0o600)
            s.ok("make at depth 30", file < 0 ? -file : 0)
            if file >= 0 {
                let file = Descriptor(owning: file)
                s.ok("a write at depth 30", file.put("deep", at: 0))
                s.equal("reading at depth 30", file.text(), "deep")
            }
            s.ok("rename at depth 30", failure { Glibc.rename("f", "g") })
            s.ok("unlink at depth 30", failure { Glibc.unlink("g") })
            for depth in (0..<30).reversed() {
                try s.need("chdir up from \(depth)", failure { Glibc.chdir("..") })
                s.ok("rmdir at depth \(depth)", failure { Glibc.rmdir(part) })
            }
            let fitting = 4095 - s.at.root.utf8.count - 1
            let dots = String(String(repeating: "./", count: 2048).prefix(fitting - 1)) + "f"
            _ = s.at.make("f")
            if dots.hasSuffix("./f") || dots.hasSuffix("/f") {
                s.ok("a path of 4095 bytes", s.at.statusError(dots))
            }
            s.expect("a path of 4096 bytes", ENAMETOOLONG, s.at.statusError("./" + dots))
        },
        ConformanceCase("every byte but the slash can be in a name, and no two spellings are one") { s in
            var names = (1..<128).filter { $0 != 47 && $0 != 46 }.map { String(UnicodeScalar(UInt8($0))) }
            names += ["...", ".hidden", " leading", "trailing ", "new\nline", "back\\slash", "a*b?c[d]", "-rf", "a~"]
            names += ["e\u{301}", "\u{e9}", "größe-データ-🦀", "CASE", "Case", "case"]
            for name in names { s.ok("make \(name.debugDescription)", s.at.make(name, name)) }
            for name in names { s.equal("bytes of \(name.debugDescription)", s.at.contents(name), name) }
            // As bytes: strings with the same letters in other spellings are equal in Swift.
            let (listed, wanted) = (Set(s.at.names().map { Array($0.utf8) }), Set(names.map { Array($0.utf8) }))
            func shown(_ names: Set<[UInt8]>) -> [String] { names.map { String(decoding: $0, as: UTF8.self) }.sorted() }
            s.equal("what is not listed", shown(wanted.subtracting(listed)), [])
            s.equal("what is listed and not there", shown(listed.subtracting(wanted)), [])
        },
        ConformanceCase("links in a circle are ELOOP whatever the call") { s in
            try s.need("make", s.at.make("f"))
            try s.need("symlink", s.at.symlink("b", "a"))
            try s.need("symlink", s.at.symlink("a", "b"))
            try s.need("symlink", s.at.symlink("self", "self"))
            let calls: [(String, CInt)] = [
                ("open", s.at.openError("a", O_RDONLY)), ("O_CREAT", s.at.openError("a", O_RDWR | O_CREAT)),
                ("stat", s.at.statusError("a")), ("chmod", s.at.chmod("a", 0o600)), ("chown", s.at.chown("self", 1, 1)),
                ("truncate", s.at.truncate("a", 0)), ("utimens", s.at.utimens("a", nil)),
                ("access", s.at.access("a", F_OK)),
                ("mkdir below", s.at.mkdir("a/x")), ("rmdir below", s.at.rmdir("a/x")),
                ("make below", s.at.make("a/x")),
                ("symlink below", s.at.symlink("x", "self/x")), ("link below", s.at.link("f", "a/x")),
                ("unlink below", s.at.unlink("a/x")), ("rename below", s.at.rename("f", "a/x")),
                ("readlink below", s.at.target("a/x").error), ("mknod below", s.at.mknod("a/x", S_IFIFO | 0o600)),
            ]
            for (what, error) in calls { s.expect(what, ELOOP, error) }
            s.equal("lstat of one of them", s.at.status("a")?.isSymbolicLink, true)
            s.equal("readlink of one of them", s.at.target("self").text, "self")
            s.ok("unlink of one of them", s.at.unlink("a"))
        },
        ConformanceCase("a chain of 40 links is followed, one of 41 is not") { s in
            try s.need("make", s.at.make("l0", "end"))
            for index in 1...41 { try s.need("symlink", s.at.symlink("l\(index - 1)", "l\(index)")) }
            s.equal("through 40", s.at.contents("l40"), "end")
            s.expect("through 41", ELOOP, s.at.openError("l41", O_RDONLY))
        },
        ConformanceCase("a file on the way is ENOTDIR whatever the call") { s in
            try s.need("make", s.at.make("f"))
            let calls: [(String, CInt)] = [
                ("open", s.at.openError("f/x", O_RDONLY)), ("make", s.at.make("f/x")), ("mkdir", s.at.mkdir("f/x")),
                ("mknod", s.at.mknod("f/x", S_IFIFO | 0o600)), ("symlink", s.at.symlink("x", "f/x")),
                ("link", s.at.link("f", "f/x")), ("unlink", s.at.unlink("f/x")), ("rmdir", s.at.rmdir("f/x")),
                ("rename", s.at.rename("f", "f/x")), ("stat", s.at.statusError("f/x")),
                ("chmod", s.at.chmod("f/x", 0o600)),
                ("truncate", s.at.truncate("f/x", 0)), ("utimens", s.at.utimens("f/x", nil)),
                ("readlink", s.at.target("f/x").error), ("access", s.at.access("f/x", F_OK)),
                ("chdir", s.at.chdir("f")), ("stat of f/.", s.at.statusError("f/.")),
                ("stat of f/", s.at.statusError("f/")),
            ]
            for (what, error) in calls { s.expect(what, ENOTDIR, error) }
        },
    ]

    static let describing: [ConformanceCase] = [
        ConformanceCase("stat tells inodes, devices and sizes that fit together") { s in
            try s.need("make", s.at.make("a", String(repeating: "x", count: 10_000)))
            try s.need("make", s.at.make("b"))
            try s.need("mkdir", s.at.mkdir("d"))
            let (a, b, d) = (s.at.status("a"), s.at.status("b"), s.at.status("d"))
            s.check("inodes differ", Set([a?.inode, b?.inode, d?.inode]).count == 3)
            s.equal("the inode of a, asked again", s.at.status("a")?.inode, a?.inode)
            s.equal("the inode by descriptor", (try? s.at.open("a", O_RDONLY).file?.status())?.inode, a?.inode)
            s.equal("the device of d", d?.deviceMinor, a?.deviceMinor)
            s.check("blocks of 10 000 bytes", (a?.blocks ?? 0) * 512 >= 10_000)
            s.check("a block size", (a?.blockSize ?? 0) >= 512)
            s.equal("the inode after a rename", s.at.rename("a", "c") == 0 ? s.at.status("c")?.inode : nil, a?.inode)
            let names = directoryEntries(s.at.root)
            s.equal("the inode in the directory", names["c"]?.inode, a?.inode)
            s.equal("the type of a file in the directory", names["c"]?.type, UInt8(DT_REG))
            s.equal("the type of a directory in the directory", names["d"]?.type, UInt8(DT_DIR))
        },
        ConformanceCase("statvfs tells space that adds up, and names of 255 bytes") { s in
            var raw = statvfs()
            try s.need("statvfs", failure { statvfs(s.at.root, &raw) })
            s.equal("the longest name", raw.f_namemax, 255)
            s.check("free space is not more than there is", raw.f_bfree <= raw.f_blocks)
            s.check("available space is not more than is free", raw.f_bavail <= raw.f_bfree)
            s.check("a block has a size", raw.f_bsize > 0 && raw.f_frsize > 0)
            s.check("there is space", raw.f_blocks > 0)
            s.equal("it is writable", raw.f_flag & UInt(ST_RDONLY), 0)
        },
        ConformanceCase("extended attributes are set, replaced, listed, sized and removed") { s in
            for name in ["file", "directory"] {
                try s.need("make", name == "file" ? s.at.make(name) : s.at.mkdir(name))
                let path = s.at.path(name)
                let file = try s.require("the \(name)", s.at.open(name, O_RDONLY).file)
                let attributes = Attributes(file)
                s.equal("names on a new \(name)", attributes.names(), [])
                s.expect("a missing attribute of a \(name)", ENODATA, attributes.error("user.a"))
                s.ok("setting on a \(name)", attributes.set("user.a", [1, 2, 3], 0))
                s.equal("the value on a \(name)", attributes.value("user.a"), [1, 2, 3])
                s.expect("XATTR_CREATE of one that is there", EEXIST, attributes.set("user.a", [4], 1))
                s.expect("XATTR_REPLACE of one that is not", ENODATA, attributes.set("user.b", [4], 2))
                s.ok("XATTR_REPLACE of one that is", attributes.set("user.a", Array(0...255), 2))
                s.ok("XATTR_CREATE of one that is not", attributes.set("user.b", [], 1))
                s.equal("every byte on a \(name)", attributes.value("user.a"), Array(0...255))
                s.equal("an empty value on a \(name)", attributes.value("user.b"), [])
                s.equal("the names on a \(name)", attributes.names(), ["user.a", "user.b"])
                s.equal("the size asked for", larder_getxattr(path, "user.a", nil, 0), 256)
                var small = [UInt8](repeating: 0, count: 10)
                s.equal("too little room", larder_getxattr(path, "user.a", &small, 10), -Int(ERANGE))
                s.ok("removing", attributes.remove("user.a"))
                s.expect("removing again", ENODATA, attributes.remove("user.a"))
                s.equal("the names then", attributes.names(), ["user.b"])
            }
            let file = Attributes(try s.require("the file", s.at.open("file", O_RDONLY).file))
            s.ok("2000 bytes", file.set("user.large", [UInt8](repeating: 7, count: 2000), 0))
            s.equal("2000 bytes again", file.value("user.large")?.count, 2000)
            s.expect("a name without a namespace", EOPNOTSUPP, file.set("name", [1], 0))
            s.expect("a name of 256 bytes", ERANGE, file.set("user." + String(repeating: "n", count: 251), [1], 0))
            s.ok("a name of 255 bytes", file.set("user." + String(repeating: "n", count: 250), [1], 0))
            s.ok("rename", s.at.rename("file", "renamed"))
            let renamed = Attributes(try s.require("the file", s.at.open("renamed", O_RDONLY).file))
            s.equal("the value after a rename", renamed.value("user.large")?.count, 2000)
        },
        ConformanceCase("extended attributes follow the permissions of the file, and links have none of users") { s in
            try s.need("make", s.at.make("f", "", 0o644))
            try s.need("symlink", s.at.symlink("f", "link"))
            let path = s.at.path("f")
            s.ok("setting by root", -larder_setxattr(path, "user.a", [1], 1))
            s.expect(
                "setting by who may not write", EACCES, User.alice.run { -larder_setxattr(path, "user.a", [1], 1) })
            s.equal("reading by who may read", User.alice.run { larder_getxattr(path, "user.a", nil, 0) }, 1)
            try s.need("chmod", s.at.chmod("f", 0o600))
            s.equal("reading by who may not", User.alice.run { larder_getxattr(path, "user.a", nil, 0) }, -Int(EACCES))
            s.equal("through a link", larder_getxattr(s.at.path("link"), "user.a", nil, 0), 1)
            guard s.has(.nodes) else { return }
            try s.need("mkfifo", s.at.mknod("pipe", S_IFIFO | 0o666))
            s.expect("setting user. on a pipe", EPERM, -larder_setxattr(s.at.path("pipe"), "user.a", [1], 1))
        },
    ]
}

/// Extended attributes of an open file.
private struct Attributes {
    private let file: Descriptor
    init(_ file: Descriptor) { self.file = file }

    func set(_ name: String, _ value: [UInt8], _ flags: CInt) -> CInt {
        errorNumber { () throws(Errno) in
            try file.setExtendedAttribute(ByteString(name), to: ByteString(value), flags: flags)
        }
    }
    func remove(_ name: String) -> CInt {
        errorNumber { () throws(Errno) in try file.removeExtendedAttribute(ByteString(name)) }
    }
    func error(_ name: String) -> CInt {
        errorNumber { () throws(Errno) in _ = try file.extendedAttribute(ByteString(name)) }
    }
    func value(_ name: String) -> [UInt8]? { try? file.extendedAttribute(ByteString(name)).bytes }
    // Security modules may have put names of their own, and Larder shows what it knows under `user.larder.`.
    func names() -> [String]? {
        try? file.extendedAttributeNames().map(\.description)
            .filter { $0.hasPrefix("user.") && !$0.hasPrefix("user.larder.") }.sorted()
    }
}

func errorNumber(_ body: () throws(Errno) -> Void) -> CInt {
    do throws(Errno) {
        try body()
        return 0
    } catch { return error.rawValue }
}

/// Name, inode and type of what readdir(3) gives, with the dots.
func directoryEntries(_ path: String) -> [String: (inode: UInt64, type: UInt8)] {
    guard let directory = opendir(path) else { return [:] }
    defer { closedir(directory) }
    var entries: [String: (inode: UInt64, type: UInt8)] = [:]
    while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        entries[name] = (UInt64(entry.pointee.d_ino), entry.pointee.d_type)
    }
    return entries
}
