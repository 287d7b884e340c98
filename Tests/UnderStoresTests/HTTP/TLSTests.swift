import Platform
import TestSupport
import Testing

@testable import UnderStores

@Suite struct TLS {
    /// Serves one word over TLS for `localhost`, with a certificate of its own that is written to `ca.pem`.
    private static let program = """
        import datetime, http.server, ipaddress, ssl, sys
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        directory, port = sys.argv[1], int(sys.argv[2])
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        now = datetime.datetime(2020, 1, 1)
        certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now).not_valid_after(datetime.datetime(2100, 1, 1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256()))
        pem = serialization.Encoding.PEM
        open(directory + "/ca.pem", "wb").write(certificate.public_bytes(pem))
        open(directory + "/key.pem", "wb").write(key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"hello")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory + "/ca.pem", directory + "/key.pem")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        print("ready", flush=True)
        server.serve_forever()
        """

    @Test func onlyTrustedCertificatesOfTheRightHostAreAccepted() async throws {
        let directory = try TemporaryDirectory()
        let port = try freePort()
        let process = try await TestProcess.start(
            TestTools.path("python"), ["-c", Self.program, directory.path, "\(port)"])
        while !process.output.contains("ready") {
            try #require(process.isRunning, "\(process.output)")
            try await Task.sleep(for: .milliseconds(20))
        }
        func get(_ host: String, caFile: String?, verifies: Bool = true) async throws -> HTTPResponse {
            var options = CurlTransport.Options()
            options.caFile = caFile
            options.verifiesTLS = verifies
            let transport = try CurlTransport(options: options, logger: TestTransport.quietLogger)
            return try await transport.send(HTTPRequest(.get, "https://\(host):\(port)/"), bodyLimit: 5)
        }
        let ca = directory.file("ca.pem")
        #expect(try await get("localhost", caFile: ca).body == Array("hello".utf8))
        #expect(try await get("localhost", caFile: nil, verifies: false).status == 200)
        for (host, file) in [("localhost", nil), ("127.0.0.1", ca)] {
            await #expect { try await get(host, caFile: file) } throws: { ($0 as? HTTPError)?.kind == .tls }
        }
        // At the store it is an error that says what to do, and is not tried again.
        var configuration = try S3Configuration(bucket: "lake")
        configuration.endpoint = "https://localhost:\(port)"
        let store = try S3Store(
            configuration: configuration, credentials: FixedCredentials(nil), transport: TestTransport.shared,
            logger: TestTransport.quietLogger)
        let error = try await caughtStoreError { try await store.check() }
        #expect(error.kind == .invalid && error.message.contains("--ca-file") && store.counters.retries == 0)
        await process.stop()
    }
}
