import BlockCaching
import Coordination
import UnderStores

/// How a coordinator runs.
package struct CoordinatorConfiguration: Sendable {
    /// Where metrics and health are served over HTTP.
    package struct HTTPListen: Hashable, Sendable {
        package var host: String
        package var port: Int

        package init(host: String, port: Int) {
            self.host = host
            self.port = port
        }
    }

    /// The Unix socket that mounts connect to; its directory must exist.
    package var socketPath: String
    /// Where the metadata index lives; made with mode 0700 when missing.
    package var stateDirectory: String
    package var cache: CacheConfiguration
    /// nil: no HTTP.
    package var http: HTTPListen?
    /// Whether the coordinator ends a few seconds after its last mount has gone (on a laptop).
    package var leavesWithLastMount = false
    /// How long a mount may take to forget what it is told to before `larder sync` names it.
    package var mountPatience: Duration = .seconds(5)
    /// How long a mount whose process has died keeps what it had, for a successor.
    package var sessionGrace: Duration = .seconds(30)
    /// Name and version, for the handshake and `larder status`.
    package var software: String
    /// Tells one boot from the next; tests inject it.
    package var bootIdentifier: String?
    /// Makes the store of a mount point; tests inject theirs.
    package var makeStore: StoreFactory?

    package init(socketPath: String, stateDirectory: String, cache: CacheConfiguration, software: String) {
        self.socketPath = socketPath
        self.stateDirectory = stateDirectory
        self.cache = cache
        self.software = software
    }
}

/// Makes the store of a mount point. Throws `.invalid` for a source or option that cannot work.
package typealias StoreFactory = @Sendable (WireMountSpecification) async throws(StoreError) -> any UnderStore

/// Why a coordinator cannot start or go on.
package struct CoordinatorError: Error, Hashable, Sendable, CustomStringConvertible {
    /// One line: what failed, on what, and what to do.
    package let message: String
    /// From sysexits.h.
    package let exitCode: Int32

    package init(_ message: String, exitCode: Int32) {
        self.message = message
        self.exitCode = exitCode
    }

    package var description: String { message }
}
