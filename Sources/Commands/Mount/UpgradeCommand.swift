import ArgumentParser
import FileSystem
import FuseBridge
import Glibc
import Platform
import SystemPackage

/// `larder upgrade [MOUNTPOINT…]`.
struct UpgradeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upgrade", abstract: "Let mounts go on with another larder program, under load.",
        discussion: """
            One mount after the other: its process ends, and one of the new program goes on with all that is open. Callers see a \
            short pause and no error. When the new program does not come up, the former goes on.

            The coordinator is upgraded by a restart; mounts wait for it.
            """)

    @Option(help: ArgumentHelp("The program to go on with; this one by default.", valueName: "path"))
    var binary: String?
    @Argument(
        help: ArgumentHelp("Mount points; all of this node by default.", valueName: "mountpoint"),
        completion: .directory)
    var mountPoints: [String] = []

    func run() throws {
        let program = binary.map { FilePaths.absolute($0) } ?? ChildProcess.currentProgram()
        let all =
            mountPoints.isEmpty ? MountPoints.list().map(\.mountPoint) : mountPoints.map { FilePaths.absolute($0) }
        try Upgrading(program: program).run(all, Output.standard())
    }
}

/// What `larder upgrade` does.
package struct Upgrading {
    private let program: String

    /// How long a mount may take, in steps of `step` milliseconds: a program that does not come up is ended after 20 s.
    private static let patience = 60_000
    private static let step = 10

    /// - Parameter program: absolute.
    package init(program: String) { self.program = program }

    /// Upgrades all that can be.
    /// - Throws: `CommandFailure`, at the end: why a mount was not upgraded.
    @available(*, noasync, message: "blocks its thread")
    package func run(_ mountPoints: [String], _ output: Output) throws(CommandFailure) {
        guard access(program, X_OK) == 0 else { throw CommandFailure(.noInput, "\(program) cannot be run") }
        var failure: CommandFailure?
        for mountPoint in mountPoints {
            do throws(CommandFailure) {
                let generation = try upgrade(mountPoint)
                output.line("\(PrintableName.of(mountPoint)): upgraded, process \(generation) of the mount")
            } catch {
                output.noteLine("larder: \(error.message)")
                failure = error
            }
        }
        guard let failure else { return }
        throw CommandFailure(code: failure.code, message: "not all mounts were upgraded")
    }

    /// Returns the number of the process that serves it now.
    private func upgrade(_ mountPoint: String) throws(CommandFailure) -> UInt64 {
        guard MountTable.entry(at: mountPoint)?.type == MountPoints.type else {
            throw CommandFailure(.noInput, "\(mountPoint) is not a Larder mount: larder status lists the mounts")
        }
        guard let supervisor = MountOwner.find(mountPoint: mountPoint)?.supervisor else {
            throw CommandFailure(.unavailable, "\(mountPoint) has no supervisor that could upgrade it; mount it anew")
        }
        let memory: SessionMemory
        let wanted: UInt64
        do throws(Errno) {
            memory = try SessionMemory(of: supervisor)
            wanted = memory.askForUpgrade(to: program)
            try SignalWatch.send(SIGUSR1, to: supervisor)
        } catch {
            throw CommandFailure(.noPermission, "the supervisor of \(mountPoint) (pid \(supervisor)): \(error)")
        }
        for _ in 0..<Self.patience / Self.step where memory.upgrades.done < wanted { pause(milliseconds: Self.step) }
        guard memory.upgrades.done >= wanted else {
            throw CommandFailure(.temporaryFailure, "\(mountPoint) does not say whether it was upgraded: see its log")
        }
        let reason = memory.upgradeFailure
        guard reason.isEmpty else { throw CommandFailure(.unavailable, "\(mountPoint) was not upgraded: \(reason)") }
        return memory.generation
    }
}
