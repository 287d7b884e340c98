import Glibc
import Platform

/// Paths as text, without asking the file system: a mount point may hang, and a path may not exist yet.
package enum FilePaths {
    /// The working directory; "/" when it has been removed.
    package static func workingDirectory() -> String {
        guard let raw = getcwd(nil, 0) else { return "/" }
        defer { free(raw) }
        return String(cString: raw)
    }

    /// `path` made absolute, with `.` and `..` resolved by name and no trailing slash. "~/" is the home directory, which
    /// a shell does not expand within a mount option or a file.
    package static func absolute(_ path: String, relativeTo directory: String = workingDirectory()) -> String {
        var path = path
        if path == "~" || path.hasPrefix("~/"), let home = homeDirectory() { path = home + path.dropFirst() }
        let whole = path.hasPrefix("/") ? path : directory + "/" + path
        var parts: [Substring] = []
        for part in whole.split(separator: "/") {
            if part == ".." { _ = parts.popLast() } else if part != "." { parts.append(part) }
        }
        return "/" + parts.joined(separator: "/")
    }

    package static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return "/" }
        return String(path[..<slash])
    }

    /// Whether `path` is `ancestor` or lies beneath it; both absolute and normal.
    package static func isPath(_ path: String, within ancestor: String) -> Bool {
        path == ancestor || ancestor == "/" || path.hasPrefix(ancestor + "/")
    }

    /// realpath(3): symbolic links resolved; nil when the path does not exist or cannot be reached.
    package static func resolved(_ path: String) -> String? {
        guard let raw = realpath(path, nil) else { return nil }
        defer { free(raw) }
        return String(cString: raw)
    }

    package static func homeDirectory(environment: [String: String] = ProcessEnvironment.current()) -> String? {
        if let home = environment["HOME"], home.hasPrefix("/") { return home }
        guard let entry = getpwuid(geteuid()), let directory = entry.pointee.pw_dir else { return nil }
        return String(cString: directory)
    }
}
