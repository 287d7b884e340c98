import Glibc
import Platform

/// A directory of its own for one test; it goes, with all that is in it, when this object goes.
package final class TemporaryDirectory: Sendable {
    /// Absolute, without a slash at the end.
    package let path: String

    /// - Parameter parent: nil for `$TMPDIR` or /tmp.
    package init(in parent: String? = nil) throws {
        let base = parent ?? getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(base)/larder-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw TestSetupError("mkdtemp in \(base): \(String(cString: strerror(errno)))")
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        ExitCleanup.add(directory: path)
    }

    deinit {
        Self.remove(path)
        ExitCleanup.forget(directory: path)
    }

    /// `path/name`
    package func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Writes a file, with its parent directories.
    package func write(_ name: String, _ bytes: some Sequence<UInt8>) throws {
        try makeDirectory(String(name[..<(name.lastIndex(of: "/") ?? name.startIndex)]))
        let file = try Descriptor.open(file(name), O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
        try Array(bytes).withUnsafeBytes { try file.write($0, at: 0) }
    }

    package func write(_ name: String, _ text: String) throws { try write(name, Array(text.utf8)) }

    /// mkdir -p below this directory.
    package func makeDirectory(_ name: String) throws {
        var current = path
        for part in name.split(separator: "/") {
            current += "/\(part)"
            guard mkdir(current, 0o755) == 0 || errno == EEXIST else {
                throw TestSetupError("mkdir \(current): \(String(cString: strerror(errno)))")
            }
        }
    }

    // Depth first, without following links; never leaves the file system of the directory (a forgotten mount).
    static func remove(_ path: String) {
        guard let status = try? FileStatus(of: path, flags: CInt(AT_SYMLINK_NOFOLLOW)) else { return }
        if status.isDirectory { empty(path, device: (status.deviceMajor, status.deviceMinor)) }
        Glibc.remove(path)
    }

    private static func empty(_ path: String, device: (UInt32, UInt32)) {
        guard let directory = opendir(path) else { return }
        var names: [String] = []
        while let entry = readdir(directory) {
            names.append(
                withUnsafePointer(to: &entry.pointee.d_name) { name in
                    name.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                })
        }
        closedir(directory)
        for name in names where name != "." && name != ".." {
            let child = "\(path)/\(name)"
            guard let status = try? FileStatus(of: child, flags: CInt(AT_SYMLINK_NOFOLLOW)),
                (status.deviceMajor, status.deviceMinor) == device
            else { continue }
            if status.isDirectory { empty(child, device: device) }
            Glibc.remove(child)
        }
    }
}
