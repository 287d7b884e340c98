import CLinux
import Glibc
import Platform
import SystemPackage

/// A directory, and the system calls on what is in it by name. Each returns the errno, 0 for success.
struct Place: Sendable {
    let root: String

    /// The path of a name; "" is the directory itself.
    func path(_ name: String) -> String { name.isEmpty ? root : "\(root)/\(name)" }
    func below(_ name: String) -> Place { Place(root: path(name)) }

    func mkdir(_ name: String, _ mode: mode_t = 0o755) -> CInt { failure { Glibc.mkdir(path(name), mode) } }
    func rmdir(_ name: String) -> CInt { failure { Glibc.rmdir(path(name)) } }
    func unlink(_ name: String) -> CInt { failure { Glibc.unlink(path(name)) } }
    func symlink(_ target: String, _ name: String) -> CInt { failure { Glibc.symlink(target, path(name)) } }
    func link(_ old: String, _ new: String) -> CInt { failure { Glibc.link(path(old), path(new)) } }
    func mknod(_ name: String, _ mode: mode_t, _ device: dev_t = 0) -> CInt {
        failure { Glibc.mknod(path(name), mode, device) }
    }
    func rename(_ old: String, _ new: String) -> CInt { failure { Glibc.rename(path(old), path(new)) } }
    func rename(_ old: String, _ new: String, flags: CInt) -> CInt {
        -larder_rename(AT_FDCWD, path(old), AT_FDCWD, path(new), UInt32(flags))
    }
    func chmod(_ name: String, _ mode: mode_t) -> CInt { failure { Glibc.chmod(path(name), mode) } }
    func chown(_ name: String, _ uid: UInt32 = .max, _ gid: UInt32 = .max) -> CInt {
        failure { Glibc.chown(path(name), uid, gid) }
    }
    func lchown(_ name: String, _ uid: UInt32 = .max, _ gid: UInt32 = .max) -> CInt {
        failure { Glibc.lchown(path(name), uid, gid) }
    }
    func truncate(_ name: String, _ size: Int) -> CInt { failure { Glibc.truncate(path(name), size) } }
    func access(_ name: String, _ mode: CInt) -> CInt { failure { Glibc.access(path(name), mode) } }
    func chdir(_ name: String = "") -> CInt { failure { Glibc.chdir(path(name)) } }

    /// Nanoseconds may be UTIME_NOW or UTIME_OMIT; nil for both times is the present.
    func utimens(_ name: String, _ times: (timespec, timespec)?, flags: CInt = 0) -> CInt {
        guard let times else { return failure { utimensat(AT_FDCWD, path(name), nil, flags) } }
        var list = [times.0, times.1]
        return failure { utimensat(AT_FDCWD, path(name), &list, flags) }
    }

    /// open(2); nil with the errno in `error`.
    func open(_ name: String, _ flags: CInt, _ mode: UInt32 = 0o644) -> (file: Descriptor?, error: CInt) {
        let result = larder_open(path(name), flags | O_CLOEXEC, mode)
        return result < 0 ? (nil, -result) : (Descriptor(owning: result), 0)
    }
    func openError(_ name: String, _ flags: CInt, _ mode: UInt32 = 0o644) -> CInt { open(name, flags, mode).error }

    /// Creates a new file with bytes in it.
    func make(_ name: String, _ text: String = "", _ mode: UInt32 = 0o644) -> CInt {
        let (file, error) = open(name, O_WRONLY | O_CREAT | O_EXCL, mode)
        guard let file else { return error }
        return file.put(text, at: 0)
    }

    /// lstat(2), stat(2).
    func status(_ name: String = "", following: Bool = false) -> FileStatus? {
        try? FileStatus(of: path(name), flags: following ? 0 : AT_SYMLINK_NOFOLLOW)
    }
    func statusError(_ name: String, following: Bool = true) -> CInt {
        do throws(Errno) {
            _ = try FileStatus(of: path(name), flags: following ? 0 : AT_SYMLINK_NOFOLLOW)
            return 0
        } catch { return error.rawValue }
    }
    func permissions(_ name: String) -> UInt32? { status(name).map { $0.mode & 0o7777 } }
    func links(_ name: String = "") -> UInt32? { status(name)?.links }
    func exists(_ name: String) -> Bool { status(name) != nil }

    func contents(_ name: String) -> String? {
        open(name, O_RDONLY).file.flatMap { $0.text() }
    }

    func target(_ name: String) -> (text: String?, error: CInt) {
        var bytes = [UInt8](repeating: 0, count: 5000)
        let length = bytes.withUnsafeMutableBytes {
            readlink(path(name), $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
        }
        return length < 0 ? (nil, errno) : (String(decoding: bytes.prefix(length), as: UTF8.self), 0)
    }

    /// The names in the directory, without the dots, as readdir(3) gives them.
    func names(_ name: String = "") -> [String] {
        guard let directory = opendir(path(name)) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// rm -rf, also of what has no permissions. Root.
    func removeAll() {
        for name in names() {
            let child = below(name)
            if status(name)?.isDirectory == true { child.removeAll() } else { _ = unlink(name) }
        }
        _ = Glibc.rmdir(root)
    }
}

/// The errno of a call that returns a negative number with one; 0 for success.
func failure(_ call: () -> some BinaryInteger) -> CInt { call() < 0 ? errno : 0 }

extension Descriptor {
    /// pwrite(2) of all of a text.
    func put(_ text: String, at offset: Int) -> CInt { put(Array(text.utf8), at: offset) }
    func put(_ bytes: [UInt8], at offset: Int) -> CInt {
        bytes.withUnsafeBytes { bytes in
            var written = 0
            while written < bytes.count {
                let count = pwrite(raw, bytes.baseAddress! + written, bytes.count - written, offset + written)
                if count < 0 { return errno }
                written += count
            }
            return 0
        }
    }

    /// write(2) at the descriptor's own position, or the end of a file opened to append.
    func append(_ text: String) -> CInt {
        var text = text
        return text.withUTF8 { bytes in failure { Glibc.write(raw, bytes.baseAddress, bytes.count) } }
    }

    /// pread(2) of up to `count` bytes; nil when it fails.
    func bytes(_ count: Int, at offset: Int = 0) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        guard let filled = try? bytes.withUnsafeMutableBytes({ try read(into: $0, at: UInt64(offset)) }) else {
            return nil
        }
        return Array(bytes.prefix(filled))
    }

    func text(_ count: Int = 1 << 16, at offset: Int = 0) -> String? {
        bytes(count, at: offset).map { String(decoding: $0, as: UTF8.self) }
    }

    func truncate(_ size: Int) -> CInt { failure { ftruncate(raw, size) } }
    var size: Int? { (try? status()).map { Int($0.size) } }
}

/// UTIME_NOW and UTIME_OMIT, which are macros.
let timeNow = timespec(tv_sec: 0, tv_nsec: (1 << 30) - 1)
let timeOmitted = timespec(tv_sec: 0, tv_nsec: (1 << 30) - 2)
func time(_ seconds: Int, _ nanoseconds: Int = 0) -> timespec { timespec(tv_sec: seconds, tv_nsec: nanoseconds) }
