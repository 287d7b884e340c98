import Glibc
import Platform

extension ConformanceCase {
    private enum Kind: String, CaseIterable {
        case nothing, file, emptyDirectory, fullDirectory, link, pipe

        func make(_ name: String, in at: Place) -> CInt {
            switch self {
            case .nothing: 0
            case .file: at.make(name, rawValue)
            case .emptyDirectory: at.mkdir(name)
            case .fullDirectory: max(at.mkdir(name), at.make("\(name)/inner"))
            case .link: at.symlink("nowhere", name)
            case .pipe: at.mknod(name, S_IFIFO | 0o600)
            }
        }

        var isDirectory: Bool { self == .emptyDirectory || self == .fullDirectory }
    }

    static let renaming: [ConformanceCase] = [
        ConformanceCase("rename of every kind over every kind") { s in
            let kinds = Kind.allCases.filter { $0 != .pipe || s.has(.nodes) }
            for old in kinds {
                for new in kinds {
                    let what = "\(old.rawValue) over \(new.rawValue)"
                    let (from, to) = ("from-\(old.rawValue)-\(new.rawValue)", "to-\(old.rawValue)-\(new.rawValue)")
                    try s.need("make \(old.rawValue)", old.make(from, in: s.at))
                    try s.need("make \(new.rawValue)", new.make(to, in: s.at))
                    let inode = s.at.status(from)?.inode
                    let target = s.at.status(to)?.inode
                    let wanted: CInt =
                        old == .nothing
                        ? ENOENT
                        : new == .nothing
                            ? 0
                            : old.isDirectory && !new.isDirectory
                                ? ENOTDIR
                                : !old.isDirectory && new.isDirectory
                                    ? EISDIR : new == .fullDirectory ? ENOTEMPTY : 0
                    s.expect("rename of \(what)", wanted, s.at.rename(from, to))
                    s.equal(
                        "what is then at the new name, \(what)", s.at.status(to)?.inode, wanted == 0 ? inode : target)
                    s.equal(
                        "what is then at the old name, \(what)", s.at.status(from)?.inode, wanted == 0 ? nil : inode)
                }
            }
        },
        ConformanceCase("rename to the same name or another name of the same file does nothing") { s in
            try s.need("make", s.at.make("a", "x"))
            try s.need("mkdir", s.at.mkdir("d"))
            s.ok("a file to itself", s.at.rename("a", "a"))
            if s.has(.hardLinks) {
                try s.need("link", s.at.link("a", "b"))
                s.ok("a file to its other name", s.at.rename("a", "b"))
                s.equal("the names", Set(s.at.names()), ["a", "b", "d"])
            }
            s.ok("a directory to itself", s.at.rename("d", "d"))
        },
        ConformanceCase("a directory is never moved below itself, nor over one it lies in") { s in
            for name in ["a", "a/b", "a/b/c"] { try s.need("mkdir", s.at.mkdir(name)) }
            s.expect("into itself", EINVAL, s.at.rename("a", "a/x"))
            s.expect("far below itself", EINVAL, s.at.rename("a", "a/b/c/x"))
            s.expect("over its own child", EINVAL, s.at.rename("a", "a/b"))
            s.expect("over its own parent", ENOTEMPTY, s.at.rename("a/b", "a"))
            s.ok("beside its parent", s.at.rename("a/b", "b"))
            s.check("with all in it", s.at.exists("b/c"))
        },
        ConformanceCase("a directory that is moved takes its tree along, and the links of both parents follow") { s in
            for name in ["from", "to", "from/d", "from/d/e"] { try s.need("mkdir", s.at.mkdir(name)) }
            try s.need("make", s.at.make("from/d/e/f", "deep"))
            let open = s.at.open("from/d/e/f", O_RDWR).file
            s.ok("rename", s.at.rename("from/d", "to/d"))
            if s.has(.directoryLinks) {
                s.equal("links of the old parent", s.at.links("from"), 2)
                s.equal("links of the new parent", s.at.links("to"), 3)
            }
            s.equal("the inode of ..", s.at.status("to/d/..")?.inode, s.at.status("to")?.inode)
            s.equal("bytes deep in it", s.at.contents("to/d/e/f"), "deep")
            s.expect("the old path", ENOENT, s.at.statusError("from/d/e/f"))
            s.ok("a write to a file that was open in it", open?.put("DEEP", at: 0) ?? EBADF)
            s.equal("bytes then", s.at.contents("to/d/e/f"), "DEEP")
            s.ok("rmdir of the old parent", s.at.rmdir("from"))
        },
        ConformanceCase("a file that is replaced while it is open goes on without a name") { s in
            try s.need("make", s.at.make("old", "old"))
            try s.need("make", s.at.make("new", "new"))
            let file = try s.require("the file", s.at.open("old", O_RDWR).file)
            s.ok("rename over it", s.at.rename("new", "old"))
            s.equal("its links", (try? file.status())?.links, 0)
            s.equal("its bytes", file.text(), "old")
            s.ok("a write", file.put("OLD", at: 0))
            s.equal("its bytes then", file.text(), "OLD")
            s.equal("bytes by the name", s.at.contents("old"), "new")
        },
        ConformanceCase("a file that is renamed while it is open is the same file") { s in
            let file = try s.require("a file", s.at.open("a", O_RDWR | O_CREAT).file)
            s.ok("a write", file.put("first", at: 0))
            s.ok("rename", s.at.rename("a", "b"))
            s.ok("a write after", file.put(" second", at: 5))
            s.ok("ftruncate after", file.truncate(8))
            s.equal("bytes by the new name", s.at.contents("b"), "first se")
            s.equal("its links", (try? file.status())?.links, 1)
            s.equal("its inode", (try? file.status())?.inode, s.at.status("b")?.inode)
        },
        ConformanceCase("saving by rename, as editors do, leaves one whole file at every moment") { s in
            try s.need("make", s.at.make("document", "version 0"))
            let at = s.at
            let stop = OneShot<Bool>()
            let reader = inBackground { () -> String in
                while stop.wait(timeout: .zero) == nil {
                    let (file, error) = at.open("document", O_RDONLY)
                    guard let file else { return "opening it gave \(errnoName(error))" }
                    guard let text = file.text() else { return "it could not be read" }
                    if !text.hasPrefix("version ") { return "it was \"\(text)\"" }
                }
                return ""
            }
            for version in 1...100 {
                s.ok("make", s.at.make("document~", "version \(version)"))
                s.ok("rename", s.at.rename("document~", "document"))
            }
            stop.set(true)
            s.equal("what a reader noticed", reader(), "")
            s.equal("the last version", s.at.contents("document"), "version 100")
        },
        ConformanceCase("rename of what is not there, or not there as a directory") { s in
            try s.need("make", s.at.make("f"))
            try s.need("mkdir", s.at.mkdir("d"))
            s.expect("to a missing directory", ENOENT, s.at.rename("f", "none/f"))
            s.expect("from a missing directory", ENOENT, s.at.rename("none/f", "g"))
            s.expect("below a file", ENOTDIR, s.at.rename("d", "f/x"))
            s.expect("from below a file", ENOTDIR, s.at.rename("f/x", "g"))
            s.expect("a file with a slash behind", ENOTDIR, s.at.rename("f/", "g"))
            s.expect("a file to a name with a slash", ENOTDIR, s.at.rename("f", "g/"))
            s.expect("\".\"", anyOf: [EBUSY, EINVAL], s.at.rename("d/.", "g"))
            s.expect("\"..\"", anyOf: [EBUSY, EINVAL], s.at.rename("d/..", "g"))
            s.ok("a directory to a name with a slash", s.at.rename("d/", "e/"))
            s.equal("what is there", Set(s.at.names()), ["f", "e"])
        },
        ConformanceCase("a link is renamed itself, and replaced itself") { s in
            try s.need("make", s.at.make("target", "kept"))
            try s.need("symlink", s.at.symlink("target", "link"))
            s.ok("rename of a link", s.at.rename("link", "moved"))
            s.equal("its text", s.at.target("moved").text, "target")
            try s.need("make", s.at.make("new", "new"))
            s.ok("rename over a link", s.at.rename("new", "moved"))
            s.equal("what replaced it", s.at.contents("moved"), "new")
            s.equal("what it led to", s.at.contents("target"), "kept")
        },
        ConformanceCase("RENAME_NOREPLACE moves to a free name only") { s in
            let noReplace: CInt = 1
            try s.need("make", s.at.make("a", "a"))
            try s.need("make", s.at.make("b", "b"))
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("symlink", s.at.symlink("none", "dangling"))
            for name in ["b", "d", "dangling", "a"] {
                s.expect("over \(name)", EEXIST, s.at.rename("a", name, flags: noReplace))
            }
            s.equal("what it would have replaced", s.at.contents("b"), "b")
            s.ok("to a free name", s.at.rename("a", "c", flags: noReplace))
            s.ok("of a directory", s.at.rename("d", "e", flags: noReplace))
            s.expect("of nothing", ENOENT, s.at.rename("a", "x", flags: noReplace))
        },
        ConformanceCase("RENAME_EXCHANGE swaps two names, whatever they are") { s in
            guard s.has(.exchange) else { return }
            let exchange: CInt = 2
            for name in ["p", "q", "p/d"] { try s.need("mkdir", s.at.mkdir(name)) }
            try s.need("make", s.at.make("q/f", "file"))
            s.ok("a directory and a file", s.at.rename("p/d", "q/f", flags: exchange))
            s.equal("the file", s.at.contents("p/d"), "file")
            s.equal("the directory", s.at.status("q/f")?.isDirectory, true)
            s.equal("links of the first parent", s.at.links("p"), 2)
            s.equal("links of the second parent", s.at.links("q"), 3)
            try s.need("make", s.at.make("x", "x"))
            try s.need("make", s.at.make("y", "y"))
            s.ok("two files", s.at.rename("x", "y", flags: exchange))
            s.equal("the first", s.at.contents("x"), "y")
            s.equal("the second", s.at.contents("y"), "x")
            s.expect("with nothing", ENOENT, s.at.rename("x", "none", flags: exchange))
            s.expect("with a child", EINVAL, s.at.rename("q", "q/f", flags: exchange))
            s.expect("with both flags", EINVAL, s.at.rename("x", "y", flags: exchange | 1))
        },
    ]
}

/// Runs `body` on a thread of its own; call what is returned to wait for its result.
func inBackground<Value: Sendable>(_ body: @escaping @Sendable () -> Value) -> () -> Value {
    let result = OneShot<Value>()
    startThread(named: "conformance-bg") { result.set(body()) }
    return {
        while true { if let value = result.wait() { return value } }
    }
}
