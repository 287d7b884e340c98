import Platform
import Testing

@testable import UnderStores

@Suite("Renewal of AWS credentials")
struct RefreshTests {
    /// Container credentials that live an hour from when they are asked for, numbered; made to fail or wait at will.
    final class Endpoint: Sendable {
        struct State {
            var count = 0
            var isDown = false
            var gate: FaultGate?
        }
        let state = Lock(State())
        let world: AWSWorld
        let lifetime: Int64

        init(lifetime: Int64 = 3600) throws {
            world = try AWSWorld(["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"])
            self.lifetime = lifetime
        }

        var count: Int { state.withLock { $0.count } }

        func chain() -> AWSCredentialsChain {
            world.chain(
                ScriptedTransport { [self] (_) async throws(HTTPError) in
                    let (number, isDown, gate) = state.withLock { state in
                        state.count += 1
                        return (state.count, state.isDown, state.gate)
                    }
                    if let gate { try? await gate.pass() }
                    if isDown { throw HTTPError(.tls, "down") }
                    let time = CivilTime(FileTime(seconds: world.clock.now.seconds + lifetime))
                    let two = { (number: Int) in number < 10 ? "0\(number)" : "\(number)" }
                    return .text(
                        """
                        {"AccessKeyId":"K\(number)","SecretAccessKey":"s","Token":"t","Expiration":\
                        "\(time.year)-\(two(time.month))-\(two(time.day))T\(two(time.hour)):\(two(time.minute)):\(two(time.second))Z"}
                        """)
                })
        }
    }

    @Test("many tasks at once cause one request")
    func singleFlight() async throws {
        let endpoint = try Endpoint()
        let gate = FaultGate()
        endpoint.state.withLock { $0.gate = gate }
        let chain = endpoint.chain()
        let tasks = (0..<50).map { _ in Task { try await chain.credentials()?.accessKeyID } }
        await gate.waitForArrivals(1)
        gate.open()
        for task in tasks { #expect(try await task.value == "K1") }
        #expect(try await chain.credentials()?.accessKeyID == "K1")
        #expect(endpoint.count == 1)
    }

    @Test("a waiting caller that is cancelled leaves; the others get theirs")
    func cancelledWaiter() async throws {
        let endpoint = try Endpoint()
        let gate = FaultGate()
        endpoint.state.withLock { $0.gate = gate }
        let chain = endpoint.chain()
        let leaving = Task { await kind { _ = try await chain.credentials() } }
        let staying = Task { try await chain.credentials()?.accessKeyID }
        await gate.waitForArrivals(1)
        leaving.cancel()
        #expect(await leaving.value == .cancelled)
        gate.open()
        #expect(try await staying.value == "K1")
    }

    @Test("they are renewed five and a half minutes ahead, in the background, while the old ones serve")
    func renewal() async throws {
        let endpoint = try Endpoint()
        let chain = endpoint.chain()
        #expect(try await chain.credentials()?.accessKeyID == "K1")
        endpoint.world.clock.advance(by: 3600 - 331)
        #expect(try await chain.credentials()?.accessKeyID == "K1")
        await chain.settle()
        #expect(endpoint.count == 1)
        let gate = FaultGate()
        endpoint.state.withLock { $0.gate = gate }
        endpoint.world.clock.advance(by: 1)
        #expect(try await chain.credentials()?.accessKeyID == "K1")
        await gate.waitForArrivals(1)
        #expect(try await chain.credentials()?.accessKeyID == "K1")
        gate.open()
        await chain.settle()
        #expect(try await chain.credentials()?.accessKeyID == "K2")
        #expect(endpoint.count == 2)
    }

    @Test("when renewal fails the old ones serve until they expire, and it is tried again after a pause")
    func failedRenewal() async throws {
        let endpoint = try Endpoint()
        let chain = endpoint.chain()
        _ = try await chain.credentials()
        endpoint.state.withLock { $0.isDown = true }
        endpoint.world.clock.advance(by: 3600 - 300)
        for _ in 0..<5 {
            #expect(try await chain.credentials()?.accessKeyID == "K1")
            await chain.settle()
        }
        #expect(endpoint.count == 2)
        endpoint.world.clock.advance(by: 31)
        #expect(try await chain.credentials()?.accessKeyID == "K1")
        await chain.settle()
        #expect(endpoint.count == 3)
        endpoint.world.clock.advance(by: 300)
        #expect(await kind { _ = try await chain.credentials() } == .invalid)
        endpoint.state.withLock { $0.isDown = false }
        #expect(await kind { _ = try await chain.credentials() } == .invalid, "a failure is remembered for a moment")
        endpoint.world.clock.advance(by: 3)
        #expect(try await chain.credentials()?.accessKeyID == "K5")
    }

    @Test("a failed renewal does not keep callers from a new load once the old ones have expired")
    func failureBeforeExpiry() async throws {
        let endpoint = try Endpoint()
        let chain = endpoint.chain()
        _ = try await chain.credentials()
        endpoint.state.withLock { $0.isDown = true }
        endpoint.world.clock.advance(by: 3600 - 5)
        #expect(try await chain.credentials()?.accessKeyID == "K1")
        await chain.settle()
        endpoint.state.withLock { $0.isDown = false }
        endpoint.world.clock.advance(by: 5)
        #expect(try await chain.credentials()?.accessKeyID == "K3")
    }

    @Test("short-lived ones are renewed in the second half of their life, not at every call")
    func shortLife() async throws {
        let endpoint = try Endpoint(lifetime: 200)
        let chain = endpoint.chain()
        for _ in 0..<10 { _ = try await chain.credentials() }
        endpoint.world.clock.advance(by: 99)
        _ = try await chain.credentials()
        await chain.settle()
        #expect(endpoint.count == 1)
        endpoint.world.clock.advance(by: 1)
        _ = try await chain.credentials()
        await chain.settle()
        #expect(endpoint.count == 2)
    }

    @Test("rejected ones are fetched anew once, whoever reports them")
    func rejected() async throws {
        let endpoint = try Endpoint()
        let chain = endpoint.chain()
        let first = try #require(try await chain.credentials())
        for _ in 0..<3 { await chain.invalidate(first) }
        let second = try #require(try await chain.credentials())
        #expect(second.accessKeyID == "K2")
        await chain.invalidate(first)
        #expect(try await chain.credentials() == second)
        #expect(endpoint.count == 2)
    }

    @Test("keys that never expire are never fetched again unless rejected")
    func permanent() async throws {
        let world = try AWSWorld(credentials: "[default]\naws_access_key_id=A\naws_secret_access_key=a\n")
        let chain = world.chain()
        let first = try #require(try await chain.credentials())
        try world.scratch.write(
            ".aws/credentials", Array("[default]\naws_access_key_id=B\naws_secret_access_key=b\n".utf8))
        world.clock.advance(by: 1_000_000)
        #expect(try await chain.credentials() == first)
        await chain.invalidate(first)
        #expect(try await chain.credentials()?.accessKeyID == "B")
    }

    @Test("an outage of a service is tried a few times, then named")
    func outage() async throws {
        let world = try AWSWorld(["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"])
        let transport = ScriptedTransport { _ in .text("", status: 503) }
        let error = await storeError { _ = try await world.chain(transport).credentials() }
        #expect(error?.kind == .unavailable && error?.message.contains("status 503") == true)
        #expect(transport.requests.count == 3)
    }
}
