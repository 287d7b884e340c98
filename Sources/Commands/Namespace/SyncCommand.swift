import ArgumentParser
import Coordination
import Platform

/// `larder sync PATH…`: makes changes in the store visible now.
struct SyncCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sync",
        abstract: "Forget what is believed of names and sizes below a path, so that the store is asked again.")

    @Argument(help: "Paths in a Larder mount.", completion: .file())
    var paths: [String] = ["."]

    func run() throws {
        for path in paths { try Synchronization(target: NamespaceTarget(path: path)).run() }
    }
}

/// What `larder sync` does with one path.
package struct Synchronization {
    private let target: NamespaceTarget

    package init(target: NamespaceTarget) { self.target = target }

    /// Returns when the kernels of all mounts of the node have forgotten; throws, naming the mount, when one does not say so.
    @available(*, noasync, message: "blocks its thread")
    package func run() throws(CommandFailure) {
        let session = try ControlSession(socket: target.socket)
        defer { session.client.close() }
        var request = WireSynchronize()
        request.inode = target.inode
        let what = "synchronize \(target.path)"
        guard case .done = try session.ask(.synchronize(request), what) else { throw session.unexpectedAnswer(what) }
    }
}
