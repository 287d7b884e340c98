import Platform
import TestSupport
import Testing

@testable import UnderStores

/// The contract of `ObjectWriting` on every store. What a server does not have is listed, so that nothing is left out
/// unseen.
@Suite("The contract of writing objects")
struct WritingContractTests {
    @Test("holds for memory, whatever it enforces", arguments: [true, false])
    func memory(enforces: Bool) async throws {
        let enforced = EnforcedConditions(
            putAbsent: enforces, putVersion: enforces, completeAbsent: enforces, completeVersion: enforces,
            isKnown: true)
        let store = MemoryStore(pageSize: 3, limits: smallParts, enforcing: enforced)
        expectAllWritten(await StoreContract(store).runObjectWriting())
        #expect(store.keys.isEmpty)
    }

    @Test("holds through a prefix and a decorator")
    func decorated() async throws {
        let memory = MemoryStore(limits: smallParts)
        let store = FaultStore(PrefixedStore(memory, prefix: "below"))
        expectAllWritten(await StoreContract(store).runObjectWriting())
        #expect(memory.keys.isEmpty)
    }

    @Test("holds on moto")
    func moto() async throws {
        let server = try await MotoServer.shared.get()
        let bucket = try await server.makeBucket()
        let store = try server.store(bucket.bucket, prefix: "pre/fix") { $0.retry.attempts = 2 }
        // It answers the completion of an aborted upload with 500.
        expectAllWritten(
            await StoreContract(store).runObjectWriting(),
            failing: ["an aborted upload is gone, and aborting it again is no error"])
        #expect(store.conditions.putAbsent && store.conditions.putVersion && store.conditions.completeAbsent)
    }

    @Test("holds on the gateway of JuiceFS")
    func gateway() async throws {
        let server = try await JuiceFSGateway.shared.get()
        let bucket = try await server.makeBucket()
        let store = try server.store(bucket.bucket)
        // It keeps an empty object `name/` as a directory, and a directory has no user metadata there.
        expectAllWritten(
            await StoreContract(store).runObjectWriting(), except: ["a directory keeps the metadata it was given"])
        #expect(!store.conditions.putAbsent && !store.conditions.completeVersion)
    }

    @Test("holds on rclone")
    func rclone() async throws {
        let server = try await RcloneS3Server.start(directoryCacheTime: "5m")
        let bucket = try await server.makeBucket()
        let store = try server.store(bucket.bucket)
        let results = await StoreContract(store).runObjectWriting()
        await server.stop()
        // A directory is one of the file system below there, which comes and goes with its files.
        expectAllWritten(
            results,
            except: [
                "a part that is sent again replaces the earlier one", "a part can be a range of another object",
                "a directory without entries exists until it is removed",
                "a directory keeps the metadata it was given",
            ])
    }

    private var smallParts: ObjectLimits {
        var limits = ObjectLimits()
        limits.smallestPart = 1000
        return limits
    }
}

/// Fails for each check that did not pass; those in `exceptions` must not apply, and those in `faults` must fail.
func expectAllWritten(_ results: [ContractResult], except exceptions: [String] = [], failing faults: [String] = []) {
    #expect(results.map(\.name) == StoreContract.objectWritingChecks)
    for result in results {
        switch result.outcome {
        case .passed:
            #expect(!(exceptions + faults).contains(result.name), "\(result.name): passed against expectation")
        case .failed(let reason): #expect(faults.contains(result.name), "\(result.name): \(reason)")
        case .notApplicable(let reason): #expect(exceptions.contains(result.name), "\(result.name): \(reason)")
        }
    }
}
