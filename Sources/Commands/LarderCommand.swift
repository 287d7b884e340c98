import ArgumentParser

/// The root of the command line.
struct LarderCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "larder",
        abstract: "One POSIX namespace over many stores, cached on this node.",
        discussion: """
            larder mount s3://bucket/prefix ~/lake    then read ~/lake; larder umount ~/lake

            Shell completions: larder --generate-completion-script bash|zsh|fish
            """,
        version: LarderVersion.software,
        groupedSubcommands: [
            CommandGroup(
                name: "Mounting",
                subcommands: [
                    MountCommand.self, UmountCommand.self, UpgradeCommand.self, CoordinatorCommand.self,
                ]),
            CommandGroup(
                name: "Looking",
                subcommands: [StatusCommand.self, StatCommand.self, ListCommand.self, UsageCommand.self]),
            CommandGroup(
                name: "Cache", subcommands: [LoadCommand.self, FreeCommand.self, SyncCommand.self]),
            CommandGroup(name: "Writing", subcommands: [FlushCommand.self, ConflictsCommand.self]),
            CommandGroup(name: "Finding faults", subcommands: [StoreCommand.self, DoctorCommand.self]),
        ])
}

/// The program: arguments in, exit code out.
package enum LarderProgram {
    private static let commands = Set(
        LarderCommand.configuration.subcommands.compactMap { $0._commandName } + ["help"])

    /// - Parameter arguments: all of them, the program's name first.
    /// - Returns: the exit code, one of sysexits.h.
    @available(*, noasync, message: "blocks its thread")
    package static func run(_ arguments: [String], output: Output = .standard()) -> Int32 {
        do {
            switch try MountHelper.translate(arguments, commands: commands) {
            case .pretend: return 0
            case .arguments(let rest):
                var command = try LarderCommand.parseAsRoot(rest)
                try command.run()
                return 0
            }
        } catch let failure as CommandFailure {
            output.noteLine("larder: \(failure.message)")
            return failure.code
        } catch { return report(error, output, command: arguments.dropFirst().first) }
    }

    /// What ArgumentParser throws: help and completions, which are answers, or a mistake in the arguments.
    private static func report(_ error: any Error, _ output: Output, command: String?) -> Int32 {
        let code = LarderCommand.exitCode(for: error).rawValue
        guard code != 0 else {
            output.line(LarderCommand.fullMessage(for: error))
            return 0
        }
        let known = command.flatMap { commands.contains($0) ? " \($0)" : nil } ?? ""
        let failure = CommandFailure(code: code, message: LarderCommand.message(for: error))
        output.noteLine("larder: \(failure.message); see larder\(known) --help")
        return code
    }
}
