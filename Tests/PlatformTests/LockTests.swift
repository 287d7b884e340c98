import Platform
import Testing

@Suite("Lock and OneShot")
struct LockTests {
    @Test("no increment is lost when many threads take the lock")
    func contention() {
        let lock = Lock((count: 0, inside: 0, mostInside: 0))
        let ended = (0..<8).map { _ in OneShot<Void>() }
        for shot in ended {
            startThread(named: "contender") {
                for _ in 0..<20_000 {
                    lock.withLock { state in
                        state.inside += 1
                        state.mostInside = max(state.mostInside, state.inside)
                        state.count += 1
                        state.inside -= 1
                    }
                }
                shot.set(())
            }
        }
        for shot in ended { #expect(shot.wait(timeout: .seconds(120)) != nil) }
        let state = lock.withLock { $0 }
        #expect(state.count == 160_000 && state.mostInside == 1)
    }

    @Test("a body that throws releases the lock and keeps its error's type")
    func throwing() {
        struct Failure: Error, Equatable {}
        let lock = Lock(0)
        #expect(throws: Failure.self) {
            try lock.withLock { (state) throws(Failure) in
                state = 1
                throw Failure()
            }
        }
        #expect(lock.withLock { $0 } == 1)
    }

    @Test("the state goes with the lock")
    func ownership() {
        final class Token: Sendable {}
        weak var token: Token?
        do {
            let made = Token()
            token = made
            let lock = Lock([made])
            #expect(lock.withLock { $0.count } == 1)
        }
        #expect(token == nil)
    }

    @Test("every waiter gets the value that was set first")
    func oneShot() {
        let shot = OneShot<Int>()
        let results = (0..<4).map { _ in OneShot<Int?>() }
        for result in results { startThread(named: "waiter") { result.set(shot.wait()) } }
        #expect(shot.set(1))
        #expect(!shot.set(2))
        for result in results { #expect(result.wait() == 1) }
        #expect(shot.wait() == 1 && shot.wait(timeout: .zero) == 1)
    }

    @Test("a wait that runs out gives nil, whatever its fraction of a second")
    func timeouts() {
        let shot = OneShot<Int>()
        for timeout in [
            Duration.zero, .nanoseconds(1), .milliseconds(1), .nanoseconds(999_999_999) / 100, .seconds(-1),
        ] {
            #expect(shot.wait(timeout: timeout) == nil)
        }
    }
}
