import Hummingbird
import Logging
import Platform

/// `/metrics` (Prometheus text format), `/healthz` and `/readyz` over HTTP.
struct MonitoringServer: Sendable {
    private let address: CoordinatorConfiguration.HTTPListen
    private let services: Services
    private let logger: Logger

    init(_ address: CoordinatorConfiguration.HTTPListen, services: Services, logger: Logger) {
        self.address = address
        self.services = services
        self.logger = logger
    }

    /// Serves until the task is cancelled; returns why it could not.
    func run() async -> CoordinatorError? {
        let router = Router()
        router.get("healthz") { _, _ in "ok\n" }
        // Ready once sessions are accepted, which is before this server starts; a cache without a usable tier still serves.
        router.get("readyz") { _, _ in "ok\n" }
        router.get("metrics") { [services] _, _ in
            Response(
                status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: Metrics(services).text)))
        }
        var quiet = logger
        quiet.logLevel = max(.notice, logger.logLevel)
        let application = Application(
            router: router,
            configuration: ApplicationConfiguration(
                address: .hostname(address.host, port: address.port), serverName: "larder"),
            logger: quiet)
        do {
            // Not runService(): signals belong to the command, which stops the coordinator as a whole.
            try await application.run()
            return nil
        } catch is CancellationError {
            return nil
        } catch {
            return CoordinatorError(
                "cannot serve HTTP at \(address.host):\(address.port): \(error); choose another http.listen",
                exitCode: 69)
        }
    }
}
