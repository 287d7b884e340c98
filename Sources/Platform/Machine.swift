import CLinux
import Glibc

/// Facts of the running machine and process.
package enum Machine {
    /// The kernel's random identifier of this boot (/proc/sys/kernel/random/boot_id), or "" where there is none.
    package static func bootIdentifier() -> String { firstLine(of: "/proc/sys/kernel/random/boot_id") ?? "" }

    /// Whether this thread has a capability, by its number in linux/capability.h (CAP_SYS_ADMIN is 21).
    package static func hasCapability(_ number: Int) -> Bool {
        var mask: UInt64 = 0
        return larder_effective_capabilities(&mask) == 0 && mask & (1 << UInt64(number)) != 0
    }

    /// "major.minor" of the kernel as numbers, from uname(2).
    package static func kernelVersion() -> (major: Int, minor: Int) {
        var name = utsname()
        uname(&name)
        let release = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let parts = release.split { !$0.isNumber }.prefix(2).map { Int($0) ?? 0 }
        return (parts.first ?? 0, parts.dropFirst().first ?? 0)
    }

    /// The first line of a small file, without its newline; nil when it cannot be read.
    package static func firstLine(of path: String) -> String? {
        guard let text = contents(of: path) else { return nil }
        return text.split(separator: "\n", omittingEmptySubsequences: false).first.map(String.init)
    }

    /// A whole small text file (1 MiB at most), or nil when it cannot be read.
    package static func contents(of path: String) -> String? {
        guard let file = try? Descriptor.open(path, O_RDONLY) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        guard let count = try? bytes.withUnsafeMutableBytes({ try file.read(into: $0, at: 0) }) else { return nil }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}
