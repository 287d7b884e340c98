import Glibc
import Platform

extension ConformanceCase {
    static let opening: [ConformanceCase] = [
        ConformanceCase("open with O_CREAT makes a file once, with the mode asked for, and opens it after that") { s in
            let (file, error) = s.at.open("f", O_RDWR | O_CREAT, 0o640)
            try s.need("open with O_CREAT", error)
            s.equal("the mode", s.at.permissions("f"), 0o640)
            s.equal("the size", file?.size, 0)
            s.ok("a write", file?.put("abc", at: 0) ?? EBADF)
            let again = s.at.open("f", O_RDONLY | O_CREAT, 0o600).file
            s.equal("its bytes, opened again with O_CREAT", again?.text(), "abc")
            s.equal("the mode, opened again with another", s.at.permissions("f"), 0o640)
        },
        ConformanceCase("O_EXCL refuses every name that exists, also that of a dangling link") { s in
            try s.need("make", s.at.make("file"))
            try s.need("mkdir", s.at.mkdir("directory"))
            try s.need("symlink", s.at.symlink("file", "link"))
            try s.need("symlink to nothing", s.at.symlink("nothing", "dangling"))
            for name in ["file", "directory", "link", "dangling"] {
                s.expect("O_EXCL on the \(name)", EEXIST, s.at.openError(name, O_RDWR | O_CREAT | O_EXCL))
            }
            s.check("nothing was made behind the dangling link", !s.at.exists("nothing"))
        },
        ConformanceCase("of many threads that open a new name with O_EXCL, one succeeds") { s in
            let at = s.at
            let results = inParallel(8) { _ in at.openError("once", O_RDWR | O_CREAT | O_EXCL) }
            s.equal("threads that made it", results.count { $0 == 0 }, 1)
            s.equal("threads that saw EEXIST", results.count { $0 == EEXIST }, 7)
        },
        ConformanceCase("O_TRUNC empties a file and keeps its mode, owner and links") { s in
            try s.need("make", s.at.make("f", "bytes", 0o604))
            try s.need("chown", s.at.chown("f", 61001, 62001))
            if s.has(.hardLinks) { try s.need("link", s.at.link("f", "g")) }
            s.ok("open with O_TRUNC", s.at.openError("f", O_WRONLY | O_TRUNC))
            let status = s.at.status(s.has(.hardLinks) ? "g" : "f")
            s.equal("the size", status?.size, 0)
            s.equal("the mode", s.at.permissions("f"), 0o604)
            s.equal("the owner", status?.uid, 61001)
            s.equal("the links", status?.links, s.has(.hardLinks) ? 2 : 1)
        },
        ConformanceCase("O_APPEND writes at the end wherever the position is, and reads anywhere") { s in
            try s.need("make", s.at.make("f", "one,"))
            let file = try s.require("an appending descriptor", s.at.open("f", O_RDWR | O_APPEND).file)
            s.ok("write", file.append("two,"))
            s.ok("pwrite at 0, which appends on Linux", file.put("three", at: 0))
            s.equal("the bytes", file.text(), "one,two,three")
            lseek(file.raw, 0, SEEK_SET)
            s.ok("write after a seek to 0", file.append("!"))
            s.equal("the bytes then", s.at.contents("f"), "one,two,three!")
        },
        ConformanceCase("O_NOFOLLOW refuses a link at the end of the path only") { s in
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("make", s.at.make("d/f", "x"))
            try s.need("symlink", s.at.symlink("d/f", "file-link"))
            try s.need("symlink", s.at.symlink("d", "directory-link"))
            s.expect("O_NOFOLLOW on a link to a file", ELOOP, s.at.openError("file-link", O_RDONLY | O_NOFOLLOW))
            s.expect(
                "O_NOFOLLOW | O_DIRECTORY on a link to a directory", ENOTDIR,
                s.at.openError("directory-link", O_RDONLY | O_NOFOLLOW | O_DIRECTORY))
            s.ok("O_NOFOLLOW through a linked directory", s.at.openError("directory-link/f", O_RDONLY | O_NOFOLLOW))
            s.ok("O_NOFOLLOW on a file", s.at.openError("d/f", O_RDONLY | O_NOFOLLOW))
            s.equal("what is read through the link", s.at.contents("file-link"), "x")
        },
        ConformanceCase("O_DIRECTORY opens directories only, and directories are not opened for writing") { s in
            try s.need("make", s.at.make("f"))
            try s.need("mkdir", s.at.mkdir("d"))
            s.expect("O_DIRECTORY on a file", ENOTDIR, s.at.openError("f", O_RDONLY | O_DIRECTORY))
            s.ok("O_DIRECTORY on a directory", s.at.openError("d", O_RDONLY | O_DIRECTORY))
            s.expect("O_WRONLY on a directory", EISDIR, s.at.openError("d", O_WRONLY))
            s.expect("O_RDWR on a directory", EISDIR, s.at.openError("d", O_RDWR))
            s.expect("O_CREAT on a directory", EISDIR, s.at.openError("d", O_RDONLY | O_CREAT))
            let directory = try s.require("the directory", s.at.open("d", O_RDONLY).file)
            var byte: UInt8 = 0
            s.expect("read(2) of a directory", EISDIR, failure { read(directory.raw, &byte, 1) })
        },
        ConformanceCase("open of what is not there, or not there as a directory") { s in
            try s.need("make", s.at.make("f"))
            s.expect("a missing name", ENOENT, s.at.openError("none", O_RDONLY))
            s.expect("O_CREAT in a missing directory", ENOENT, s.at.openError("none/f", O_RDWR | O_CREAT))
            s.expect("a name below a file", ENOTDIR, s.at.openError("f/g", O_RDONLY))
            s.expect("O_CREAT below a file", ENOTDIR, s.at.openError("f/g", O_RDWR | O_CREAT))
            s.expect("a file with a slash behind", ENOTDIR, s.at.openError("f/", O_RDONLY))
            s.expect("O_CREAT with a slash behind", EISDIR, s.at.openError("new/", O_RDWR | O_CREAT))
        },
        ConformanceCase("O_CREAT through a dangling link makes its target") { s in
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("symlink", s.at.symlink("d/target", "link"))
            s.expect("without O_CREAT", ENOENT, s.at.openError("link", O_RDONLY))
            s.ok("with O_CREAT", s.at.openError("link", O_RDWR | O_CREAT))
            s.check("the target is there", s.at.exists("d/target"))
        },
        ConformanceCase("a descriptor allows what it was opened for") { s in
            try s.need("make", s.at.make("f", "abc"))
            let reader = try s.require("a reader", s.at.open("f", O_RDONLY).file)
            let writer = try s.require("a writer", s.at.open("f", O_WRONLY).file)
            var byte: UInt8 = 0
            s.expect("write to a reader", EBADF, reader.put("x", at: 0))
            s.expect("read from a writer", EBADF, failure { pread(writer.raw, &byte, 1, 0) })
            s.expect("ftruncate of a reader", EINVAL, reader.truncate(0))
            s.ok("fsync of a reader", failure { fsync(reader.raw) })
        },
        ConformanceCase("whoever creates a file may use the descriptor, whatever the mode") { s in
            try s.need("mkdir", s.at.mkdir("d", 0o777))
            let at = s.at
            let (written, second): (CInt, CInt) = User.alice.run {
                let (file, error) = at.open("d/f", O_RDWR | O_CREAT | O_EXCL, 0)
                return (file?.put("abc", at: 0) ?? error, at.openError("d/f", O_RDONLY))
            }
            s.ok("a write to a new file of mode 0", written)
            s.expect("opening it again", EACCES, second)
            s.equal("the size", s.at.status("d/f")?.size, 3)
        },
        ConformanceCase("a file without a name is made with O_TMPFILE, and can be given one") { s in
            guard s.has(.namelessFiles) else { return }
            let (file, error) = s.at.open("", O_RDWR | 0o20_000_000 | O_DIRECTORY, 0o600)
            s.ok("open with O_TMPFILE", error)
            guard let file else { return }
            s.equal("its links", (try? file.status())?.links, 0)
            s.ok("a write", file.put("abc", at: 0))
            s.equal("names in the directory", s.at.names(), [])
            s.ok("linkat", failure { linkat(AT_FDCWD, "/proc/self/fd/\(file.raw)", AT_FDCWD, s.at.path("f"), 0x400) })
            s.equal("its bytes by the new name", s.at.contents("f"), "abc")
        },
        ConformanceCase("opening a pipe to write without a reader, and a socket, is ENXIO") { s in
            guard s.has(.nodes) else { return }
            try s.need("mkfifo", s.at.mknod("pipe", S_IFIFO | 0o600))
            try s.need("mknod of a socket", s.at.mknod("socket", S_IFSOCK | 0o600))
            s.expect("the pipe", ENXIO, s.at.openError("pipe", O_WRONLY | O_NONBLOCK))
            s.expect("the socket", ENXIO, s.at.openError("socket", O_RDONLY))
            let reader = s.at.open("pipe", O_RDONLY | O_NONBLOCK).file
            let writer = s.at.open("pipe", O_WRONLY | O_NONBLOCK).file
            s.ok("a write to the pipe", writer?.append("through") ?? EBADF)
            var bytes = [UInt8](repeating: 0, count: 16)
            let count = reader.map { read($0.raw, &bytes, 16) } ?? -1
            s.equal("what comes out", String(decoding: bytes.prefix(max(0, count)), as: UTF8.self), "through")
        },
        ConformanceCase("O_SYNC and O_DSYNC writes arrive") { s in
            for (name, flag) in [("O_SYNC", O_SYNC), ("O_DSYNC", O_DSYNC)] {
                let (file, error) = s.at.open(name, O_RDWR | O_CREAT | flag)
                s.ok("open with \(name)", error)
                s.ok("write with \(name)", file?.put("abc", at: 5) ?? EBADF)
                s.equal("bytes written with \(name)", s.at.contents(name), "\0\0\0\0\0abc")
            }
        },
        ConformanceCase("a program is executed when its mode allows it") { s in
            try s.need("make", s.at.make("program", "#!/bin/sh\nexit 7\n", 0o755))
            try s.need("make", s.at.make("text", "#!/bin/sh\nexit 7\n", 0o644))
            func exitCode(_ name: String) -> Int32? {
                let pid = try? ChildProcess.start(
                    s.at.path(name), arguments: [name], environment: [:], descriptors: .init(), newSession: false)
                return pid.map { ChildProcess.wait(for: $0) }
            }
            s.equal("how a program ended", exitCode("program"), 7)
            s.check("a file without the x bit is refused", exitCode("text") == nil)
        },
    ]
}

/// Runs `body` on `count` threads at once and returns all results.
func inParallel<Value: Sendable>(_ count: Int, _ body: @escaping @Sendable (Int) -> Value) -> [Value] {
    let results = (0..<count).map { _ in OneShot<Value>() }
    let start = OneShot<Bool>()
    for (index, result) in results.enumerated() {
        startThread(named: "conformance-n") {
            waitFor(start)
            result.set(body(index))
        }
    }
    start.set(true)
    return results.map { result in
        while true { if let value = result.wait() { return value } }
    }
}

/// Waits on a thread of the case.
func waitFor(_ signal: OneShot<Bool>) { _ = signal.wait() }
