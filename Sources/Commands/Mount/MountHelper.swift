/// The ways in which mount(8) starts this program, turned into `larder mount …`.
package enum MountHelper {
    package enum Request: Hashable, Sendable {
        case arguments([String])
        /// `mount -f`: everything but the mount.
        case pretend
    }

    /// Names under which mount(8) looks for a helper of the type `fuse.larder` or `larder`.
    private static let names: Set<String> = ["mount.fuse.larder", "mount.larder"]

    /// - Parameter arguments: all of them, the program's name first.
    /// - Throws: `CommandFailure` (usage).
    package static func translate(_ arguments: [String], commands: Set<String>) throws(CommandFailure) -> Request {
        let name = arguments.first.map { $0.split(separator: "/").last.map(String.init) ?? $0 } ?? ""
        let rest = Array(arguments.dropFirst())
        if names.contains(name) { return try helper(rest) }
        guard let first = rest.first, !first.hasPrefix("-"), !commands.contains(first) else { return .arguments(rest) }
        // mount.fuse3(8) runs `larder SOURCE MOUNTPOINT -o …`.
        let isSource = first.contains("/") || first.hasSuffix(".yaml") || first.hasSuffix(".yml")
        guard rest.count >= 2, isSource else {
            throw CommandFailure(
                .usage, "there is no command \"\(first)\": \(Suggestion.hint(for: first, among: commands.sorted()))")
        }
        return try helper(rest)
    }

    /// `SOURCE MOUNTPOINT [-sfnv] [-N namespace] [-o options] [-t type]` (mount(8), "External helpers"). Long flags are ours.
    private static func helper(_ arguments: [String]) throws(CommandFailure) -> Request {
        var positional: [String] = []
        var options: [String] = []
        var pretend = false
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            switch argument {
            case "-N", "-t":
                guard rest.popFirst() != nil else { throw CommandFailure(.usage, "\(argument) needs a value") }
            case "-o":
                guard let value = rest.popFirst() else { throw CommandFailure(.usage, "-o needs options: -o k=v,…") }
                options += ["-o", value]
            case "-f": pretend = true
            case "-s", "-n", "-v", "-w", "-r": continue
            default:
                if argument.hasPrefix("-") { options.append(argument) } else { positional.append(argument) }
            }
        }
        guard positional.count == 2 else {
            throw CommandFailure(.usage, "a mount needs a source and a mount point: SOURCE MOUNTPOINT [-o options]")
        }
        return pretend ? .pretend : .arguments(["mount"] + positional + options)
    }
}
