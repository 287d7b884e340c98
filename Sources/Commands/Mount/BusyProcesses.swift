import Glibc
import Platform
import SystemPackage

/// Who keeps a file system busy, as fuser(1) finds it (proc(5)).
package enum BusyProcesses {
    package struct User: Hashable, Sendable {
        package let pid: Int32
        package let name: String
    }

    /// Processes with a file, working directory, root or program below `path`. Those of other users are seen only by root.
    /// - Parameter device: "major:minor" of the file system: mapped files are known by it, names may be deleted.
    package static func using(_ path: String, device: String? = nil) -> [User] {
        all().filter { isUsing($0, path, device) }.map { pid in
            User(pid: pid, name: Machine.firstLine(of: "/proc/\(pid)/comm") ?? "?")
        }
    }

    static func all() -> [Int32] { names(in: "/proc").compactMap { Int32($0) }.sorted() }

    private static func isUsing(_ pid: Int32, _ path: String, _ device: String?) -> Bool {
        for link in ["cwd", "root", "exe"] where isBelow("/proc/\(pid)/\(link)", path) { return true }
        for number in names(in: "/proc/\(pid)/fd") where isBelow("/proc/\(pid)/fd/\(number)", path) { return true }
        guard let device, let maps = Machine.contents(of: "/proc/\(pid)/maps") else { return false }
        let parts = device.split(separator: ":").compactMap { UInt32($0) }
        guard parts.count == 2 else { return false }
        // maps has the device in hexadecimal, two digits each.
        let wanted = parts.map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined(separator: ":")
        return maps.split(separator: "\n").contains { line in
            line.split(separator: " ", maxSplits: 4).dropFirst(3).first == Substring(wanted)
        }
    }

    private static func isBelow(_ link: String, _ path: String) -> Bool {
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = readlink(link, &target, target.count)
        guard length > 0 else { return false }
        let text = String(decoding: target.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.hasPrefix("/") && FilePaths.isPath(text, within: path)
    }

    private static func names(in directory: String) -> [String] {
        guard let reader = (try? Descriptor.open(directory, O_RDONLY | O_DIRECTORY)).map({ DirectoryReader($0) }) else {
            return []
        }
        var names: [String] = []
        while let name = try? reader.next() { names.append(name.description) }
        return names
    }
}
