import Coordination
import Platform
import SystemPackage

/// The command line's session with a coordinator.
package struct ControlSession: Sendable {
    package let client: CoordinatorClient
    package let socket: String

    /// - Throws: `CommandFailure`: unavailable when nobody listens, noPermission, protocolError.
    package init(socket: String) throws(CommandFailure) {
        self.socket = socket
        do throws(CoordinationError) {
            client = try CoordinatorClient(path: socket, role: .control, software: LarderVersion.software)
        } catch {
            switch error.errno {
            case .noSuchFileOrDirectory, .connectionRefused:
                throw CommandFailure(
                    .unavailable,
                    "no coordinator listens at \(socket): mount something, or start one with larder coordinator")
            case .permissionDenied:
                throw CommandFailure(.noPermission, "the coordinator at \(socket) refuses you: \(error.message)")
            default: throw CommandFailure(error)
            }
        }
    }

    /// Sends a request and waits for its one answer.
    /// - Parameter what: what is under way, for the error: "measure /mnt/lake".
    @available(*, noasync, message: "blocks its thread")
    package func ask(
        _ body: WireEnvelope.OneOf_Body, _ what: String
    ) throws(CommandFailure) -> WireEnvelope.OneOf_Body {
        do throws(CoordinationError) { return try client.call(body).body } catch {
            throw CommandFailure(error, while: what)
        }
    }

    /// The answer was of a kind that this request does not have.
    package func unexpectedAnswer(_ what: String) -> CommandFailure {
        CommandFailure(.protocolError, "cannot \(what): the coordinator at \(socket) answered something else")
    }
}

extension CommandFailure {
    /// What the coordinator said, with the exit code for its errno.
    package init(_ error: CoordinationError, while what: String? = nil) {
        let status: ExitStatus =
            switch error.errno {
            case .noSuchFileOrDirectory: .noInput
            case .permissionDenied, .notPermitted: .noPermission
            case .invalidArgument: .configuration
            case .ioError: .inputOutput
            case .protocolNotSupported, .protocolError: .protocolError
            case .resourceBusy: .temporaryFailure
            case .noSpace, .readOnlyFileSystem: .cannotCreate
            default: .unavailable
            }
        self.init(status, what.map { "cannot \($0): \(error.message)" } ?? error.message)
    }
}
